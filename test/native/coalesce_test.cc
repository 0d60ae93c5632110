// Merging: a test for each rule of what may become one packet, and random flows whose merged packets have to give back
// every packet bit for bit and in order.
#include <functional>

#include "coalesce.h"
#include "merged_batch.h"
#include "packets.h"

using namespace flannelette;

namespace {

constexpr CoalesceOptions kTcpOnly{true, false, false};
constexpr CoalesceOptions kTcpAndUdp{true, true, false};
constexpr CoalesceOptions kConstantIdsToo{true, true, true};

MergedBatch Merge(const std::vector<std::string>& packets, const CoalesceOptions& options = kTcpAndUdp) {
  MergedBatch batch(packets, options);
  ExpectInvisible(batch, !options.udp_constant_ids);
  ExpectOrder(batch);
  return batch;
}

using Carried = std::vector<std::vector<uint32_t>>;

// Packets of one flow that follow each other, as a sender's segmentation makes them.
std::vector<std::string> Run(PacketShape shape, size_t count, size_t bytes, size_t last_bytes) {
  std::vector<std::string> packets;
  for (size_t number = 0; number < count; number++) {
    const size_t length = number + 1 == count ? last_bytes : bytes;
    packets.push_back(MakePacket(shape, std::string(length, static_cast<char>('a' + number % 26))));
    shape.sequence += static_cast<uint32_t>(length);
    shape.id++;
  }
  return packets;
}

PacketShape TcpShape() {
  PacketShape shape;
  shape.tcp_options = std::string("\x01\x01\x08\x0a", 4) + "timestmp";
  return shape;
}

PacketShape UdpShape() {
  PacketShape shape;
  shape.tcp = false;
  return shape;
}

// The second of four packets is not like the others: what may it be carried with?
Carried WithSecond(const PacketShape& shape, const std::function<void(std::string*)>& change, bool complete = true) {
  std::vector<std::string> packets = Run(shape, 4, 100, 100);
  change(&packets[1]);
  if (complete) Complete(&packets[1]);
  return Merge(packets).carried;
}

const Carried kApart{{0}, {1}, {2, 3}};

void NeighboursOfAFlowAreOnePacket() {
  EXPECT((Merge(Run(TcpShape(), 5, 1420, 1420)).carried == Carried{{0, 1, 2, 3, 4}}));
  EXPECT((Merge(Run(TcpShape(), 5, 1420, 1)).carried == Carried{{0, 1, 2, 3, 4}}));
  EXPECT((Merge(Run(UdpShape(), 5, 64, 64)).carried == Carried{{0, 1, 2, 3, 4}}));
  EXPECT((Merge(Run(UdpShape(), 5, 64, 1)).carried == Carried{{0, 1, 2, 3, 4}}));
  EXPECT((Merge(Run(UdpShape(), 3, 64, 64), kTcpOnly).carried == Carried{{0}, {1}, {2}}));
  EXPECT((Merge(Run(TcpShape(), 3, 64, 64), {false, true, false}).carried == Carried{{0}, {1}, {2}}));
  EXPECT(Merge({}).carried.empty());
}

void SequenceNumbersAndIdsMayWrap() {
  PacketShape shape = TcpShape();
  shape.sequence = 0xffffffff - 150;
  shape.id = 0xfffe;
  EXPECT((Merge(Run(shape, 4, 100, 100)).carried == Carried{{0, 1, 2, 3}}));
}

void APacketThatSaysOtherwiseStaysAlone() {
  for (const PacketShape& shape : {TcpShape(), UdpShape()}) {
    const auto set = [&shape](size_t at, uint32_t word) {
      return WithSecond(shape, [at, word](std::string* packet) { SetWord(packet, at, word); });
    };
    EXPECT((set(0, 0x4501) == kApart));       // TOS: ECN
    EXPECT((set(0, 0x45b8) == kApart));       // TOS: DSCP
    EXPECT((set(8, 0x3d06 + (shape.tcp ? 0 : 11)) == kApart));  // TTL
    EXPECT((set(6, 0x0000) == kApart));       // DF
    EXPECT((set(6, 0xc000) == kApart));       // the reserved flag
    EXPECT((set(4, 0x1234) == kApart));       // the id before
    EXPECT((set(4, 0x1236) == kApart));       // the id after
    EXPECT((set(4, 0) == kApart));
  }
}

void WhatTcpHeadersMayDifferIn() {
  const auto with = [](size_t at, char value) {
    return WithSecond(TcpShape(), [at, value](std::string* packet) { (*packet)[at] = value; });
  };
  EXPECT((with(24 + 3, 9) == kApart));    // sequence: a gap, or an overlap
  EXPECT((with(28 + 3, 9) == kApart));    // acknowledgment
  EXPECT((with(35, 9) == kApart));        // window
  EXPECT((with(39, 9) == kApart));        // urgent pointer
  EXPECT((with(51, 'X') == kApart));      // the timestamp's last byte
  EXPECT((with(32, '\x82') == kApart));   // a reserved bit
  EXPECT((with(32, '\x70') == kApart));   // options of another length: payload's bytes are then another number
  EXPECT((with(33, 0x00) == kApart));     // no ACK
  EXPECT((with(33, 0x12) == kApart));     // SYN
  EXPECT((with(33, 0x14) == kApart));     // RST
  EXPECT((with(33, 0x30) == kApart));     // URG
  EXPECT((with(33, 0x50) == kApart));     // ECE on one only
  EXPECT((with(33, 0x18) == Carried{{0, 1}, {2, 3}}));          // PSH ends the run
  EXPECT((with(33, 0x11) == Carried{{0, 1}, {2, 3}}));          // so does FIN
  EXPECT((with(33, '\x90') == Carried{{0}, {1, 2, 3}}));  // CWR begins one
}

void EchoedCongestionIsMergedWhereAllSayIt() {
  PacketShape shape = TcpShape();
  shape.flags = 0x50;
  EXPECT((Merge(Run(shape, 3, 100, 100)).carried == Carried{{0, 1, 2}}));
}

void AFirstPacketThatEndsARunIsAlone() {
  PacketShape shape = TcpShape();
  std::vector<std::string> packets = Run(shape, 3, 100, 100);
  packets[0][33] = 0x18;
  Complete(&packets[0]);
  EXPECT((Merge(packets).carried == Carried{{0}, {1, 2}}));
}

void TheLastMayBeShorterAndNoneLonger() {
  for (const PacketShape& shape : {TcpShape(), UdpShape()}) {
    std::vector<std::string> packets = Run(shape, 2, 100, 60);
    PacketShape next = shape;
    next.sequence += 160;
    next.id = static_cast<uint16_t>(next.id + 2);
    for (const std::string& packet : Run(next, 2, 60, 100)) packets.push_back(packet);
    EXPECT((Merge(packets).carried == Carried{{0, 1}, {2}, {3}}));
  }
}

void PacketsWithoutPayloadAreNotMerged() {
  for (const PacketShape& shape : {TcpShape(), UdpShape()}) {
    EXPECT((Merge(Run(shape, 3, 100, 0)).carried == Carried{{0, 1}, {2}}));
    EXPECT((Merge(Run(shape, 3, 0, 0)).carried == Carried{{0}, {1}, {2}}));
  }
}

void OptionsAndFragmentsPassBy() {
  for (PacketShape shape : {TcpShape(), UdpShape()}) {
    shape.ip_options = std::string("\x94\x04\0\0", 4);
    EXPECT((Merge(Run(shape, 2, 100, 100)).carried == Carried{{0}, {1}}));
    shape.ip_options.clear();
    for (const uint16_t fragment : {0x2000, 0x0001, 0x8000}) {
      shape.fragment = fragment;
      EXPECT((Merge(Run(shape, 2, 100, 100)).carried == Carried{{0}, {1}}));
    }
    shape.fragment = 0;  // may be fragmented, but is not
    EXPECT((Merge(Run(shape, 2, 100, 100)).carried == Carried{{0, 1}}));
  }
}

void AFragmentIsNotOvertakenByItsFlow() {
  std::vector<std::string> packets = Run(UdpShape(), 4, 100, 100);
  PacketShape shape = UdpShape();
  shape.fragment = 0x2001;  // what looks like ports are none
  shape.source_port = 7;
  packets.insert(packets.begin() + 2, MakePacket(shape, "fragment"));
  EXPECT((Merge(packets).carried == Carried{{0, 1}, {2}, {3, 4}}));
}

void ABadChecksumPassesByInItsPlace() {
  for (const PacketShape& shape : {TcpShape(), UdpShape()}) {
    const size_t payload = HeaderBytes(MakePacket(shape, "")) + 50;
    for (const size_t at : {payload, ChecksumAt(MakePacket(shape, "")), size_t{10}}) {
      const auto spoil = [at](std::string* packet) { (*packet)[at] = static_cast<char>((*packet)[at] ^ 0x10); };
      EXPECT((WithSecond(shape, spoil, false) == kApart));
      std::vector<std::string> packets = Run(shape, 3, 100, 100);
      spoil(&packets[0]);
      EXPECT((Merge(packets).carried == Carried{{0}, {1, 2}}));
      packets = Run(shape, 3, 100, 100);
      spoil(&packets[2]);
      EXPECT((Merge(packets).carried == Carried{{0, 1}, {2}}));
    }
  }
}

void UdpWithoutAChecksumPassesBy() {
  EXPECT((WithSecond(UdpShape(), [](std::string* packet) { SetWord(packet, 26, 0); }, false) == kApart));
}

void UdpWithAnotherLengthPassesBy() {
  const auto change = [](std::string* packet) {
    SetWord(packet, 24, 107);
    SetWord(packet, 26, 0);  // and a checksum that is right but for that
    SetWord(packet, 26, ~ReferenceSum(PseudoHeader(*packet) + packet->substr(20)) & 0xffff);
  };
  EXPECT((WithSecond(UdpShape(), change, false) == kApart));
}

void BytesBeyondThePacketAreNotMergedIn() {
  for (const PacketShape& shape : {TcpShape(), UdpShape()}) {
    EXPECT((WithSecond(shape, [](std::string* packet) { packet->append(2, '\0'); }, false) == kApart));
  }
}

// Even where what comes after it would fit what came before.
void WhatCannotBeMergedIsNotOvertakenByItsFlow() {
  for (PacketShape shape : {TcpShape(), UdpShape()}) {
    std::vector<std::string> packets = Run(shape, 3, 100, 100);
    shape.id = 7;
    packets.insert(packets.begin() + 1, MakePacket(shape, ""));
    EXPECT((Merge(packets).carried == Carried{{0}, {1}, {2, 3}}));
  }
}

// A checksum of 0xffff says the same as 0, but segmentation writes 0.
void AChecksumThatSegmentationDoesNotWritePassesBy() {
  const auto zero_sum = [](std::string* packet, size_t checksum, size_t word) {
    SetWord(packet, word, 0);
    Complete(packet);
    SetWord(packet, word, WordAt(*packet, checksum));
    Complete(packet);
  };
  std::vector<std::string> packets = Run(TcpShape(), 3, 100, 100);
  zero_sum(&packets[1], 36, 100);
  EXPECT(WordAt(packets[1], 36) == 0);
  EXPECT((Merge(packets).carried == Carried{{0, 1, 2}}));
  SetWord(&packets[1], 36, 0xffff);
  EXPECT((Merge(packets).carried == Carried{{0}, {1}, {2}}));

  packets = Run(UdpShape(), 3, 100, 100);
  zero_sum(&packets[1], 26, 100);
  EXPECT(WordAt(packets[1], 26) == 0xffff);  // here the only one there is
  EXPECT((Merge(packets).carried == Carried{{0, 1, 2}}));

  PacketShape shape = TcpShape();
  packets = Run(shape, 2, 100, 100);
  // An address that makes the second IPv4 header's checksum zero.
  for (std::string& packet : packets) SetWord(&packet, 18, 0);
  Complete(&packets[1]);
  const uint32_t address = WordAt(packets[1], 10);
  for (std::string& packet : packets) {
    SetWord(&packet, 18, address);
    Complete(&packet);
  }
  EXPECT(WordAt(packets[1], 10) == 0);
  EXPECT((Merge(packets).carried == Carried{{0, 1}}));
  SetWord(&packets[1], 10, 0xffff);
  EXPECT((Merge(packets).carried == Carried{{0}, {1}}));
}

void ConstantIdsAreMergedOnlyWhereTheyMayBe() {
  const auto run = [](uint16_t fragment, bool tcp, std::vector<uint16_t> ids) {
    PacketShape shape;
    shape.tcp = tcp;
    shape.fragment = fragment;
    std::vector<std::string> packets;
    for (const uint16_t id : ids) {
      shape.id = id;
      packets.push_back(MakePacket(shape, std::string(100, 'x')));
      shape.sequence += 100;
    }
    return packets;
  };
  const Carried apart{{0}, {1}, {2}};
  EXPECT((Merge(run(0x4000, false, {0, 0, 0})).carried == apart));
  EXPECT((Merge(run(0x4000, false, {0, 0, 0}), kConstantIdsToo).carried == Carried{{0, 1, 2}}));
  EXPECT((Merge(run(0x4000, false, {7, 8, 9}), kConstantIdsToo).carried == Carried{{0, 1, 2}}));
  EXPECT((Merge(run(0x4000, false, {7, 7, 8}), kConstantIdsToo).carried == Carried{{0, 1}, {2}}));
  EXPECT((Merge(run(0x4000, false, {7, 8, 8}), kConstantIdsToo).carried == Carried{{0, 1}, {2}}));
  EXPECT((Merge(run(0x0000, false, {7, 7, 7}), kConstantIdsToo).carried == apart));
  EXPECT((Merge(run(0x4000, true, {0, 0, 0}), kConstantIdsToo).carried == apart));
}

void NoPacketOutgrowsItsLimits() {
  // 65,535 bytes of IPv4 packet, of which 52 are headers here.
  const std::vector<std::string> large = Run(TcpShape(), 80, 1420, 1420);
  MergedBatch batch = Merge(large);
  EXPECT(batch.carried.size() == 2 && batch.carried[0].size() == (65535 - 52) / 1420);
  // Just fits, and just does not.
  EXPECT((Merge(Run(TcpShape(), 2, 32742, 32741)).carried == Carried{{0, 1}}));
  EXPECT((Merge(Run(TcpShape(), 2, 32742, 32742)).carried == Carried{{0}, {1}}));
  batch = Merge(Run(UdpShape(), 150, 10, 10));
  EXPECT(batch.carried.size() == 3 && batch.carried[0].size() == 64 && batch.carried[2].size() == 22);
  batch = Merge(Run(TcpShape(), 1500, 1, 1));
  EXPECT(batch.carried.size() == 2 && batch.carried[0].size() == Coalescer::kMaxVectors - 2);
}

void InterleavedFlowsAreMergedEach() {
  std::vector<std::string> packets;
  std::vector<PacketShape> shapes;
  for (uint16_t flow = 0; flow < 64; flow++) {
    PacketShape shape = flow % 2 == 0 ? TcpShape() : UdpShape();
    shape.source_port = static_cast<uint16_t>(30000 + flow);
    shapes.push_back(shape);
  }
  for (int round = 0; round < 6; round++) {
    for (PacketShape& shape : shapes) {
      packets.push_back(MakePacket(shape, std::string(100, 'x')));
      shape.sequence += 100;
      shape.id++;
    }
  }
  EXPECT(Merge(packets).carried.size() == 64);
}

void FlowsDifferInEveryPartOfTheirKey() {
  for (int part = 0; part < 5; part++) {
    std::vector<std::string> packets = Run(UdpShape(), 2, 100, 100);
    PacketShape shape = UdpShape();
    shape.id++;
    if (part == 0) shape.source++;
    if (part == 1) shape.destination++;
    if (part == 2) shape.source_port++;
    if (part == 3) shape.destination_port++;
    if (part == 4) shape.tcp = true;
    packets[1] = MakePacket(shape, std::string(100, 'x'));
    EXPECT((Merge(packets).carried == Carried{{0}, {1}}));
  }
}

void MoreFlowsThanTheTableHolds(Random* random) {
  std::vector<std::string> packets;
  std::vector<PacketShape> shapes(3000, UdpShape());
  for (PacketShape& shape : shapes) shape.source = random->Word();
  for (int round = 0; round < 3; round++) {
    for (PacketShape& shape : shapes) {
      for (int twice = 0; twice < 2; twice++, shape.id++) packets.push_back(MakePacket(shape, "0123456789"));
    }
  }
  EXPECT(Merge(packets).carried.size() <= packets.size() / 2);
}

void NothingIsLeftOfTheBatchBefore() {
  std::vector<std::string> packets = Run(TcpShape(), 2, 100, 100);
  Coalescer coalescer(8);
  for (std::string& packet : packets) {
    coalescer.Begin(kTcpAndUdp);
    coalescer.Add(reinterpret_cast<uint8_t*>(&packet[0]), packet.size(), 5);
    EXPECT(coalescer.Finish() == 1);
    EXPECT(coalescer.write(0).count == 1 && coalescer.write(0).indices[0] == 5);
  }
}

void WhatFinishDidCanBeTakenBack() {
  for (PacketShape shape : {TcpShape(), UdpShape()}) {
    shape.flags = 0x90;
    std::vector<std::string> packets = Run(shape, 1, 100, 100);
    shape.flags = 0x10;
    for (const std::string& packet : Run(shape, 4, 100, 40)) packets.push_back(packet);
    packets.erase(packets.begin() + 1);
    MergedBatch batch = Merge(packets);
    EXPECT(batch.carried.size() == 1 && batch.Memory(0) != packets[0]);
    batch.coalescer->Undo(0);
    for (size_t index = 0; index < packets.size(); index++) EXPECT(batch.Memory(index) == packets[index]);
  }
}

// Flows with everything in them that happens to flows, in random order.
void RandomFlowsComeThroughUnseen(Random* random) {
  size_t merged = 0;
  for (int round = 0; round < 1200; round++) {
    std::vector<std::vector<std::string>> flows(random->Between(1, 8));
    for (std::vector<std::string>& flow : flows) {
      PacketShape shape = RandomShape(random);
      shape.flags = 0x10;
      if (random->OneIn(2)) {  // of the same hosts as others
        shape.source = 1;
        shape.destination = 2;
      }
      const uint32_t size = random->OneIn(20) ? random->Between(1, 20000) : random->Between(1, 1500);
      for (uint32_t count = random->Between(1, 30); count > 0; count--) {
        const uint32_t length = random->OneIn(12) ? random->Below(size + 10) : size;
        PacketShape one = shape;
        if (random->OneIn(15)) one.flags = static_cast<uint8_t>(random->Word());
        if (random->OneIn(40)) one.ttl--;
        if (random->OneIn(40)) one.fragment = static_cast<uint16_t>(random->Word());
        if (random->OneIn(60)) one.id = 0;
        std::string packet = MakePacket(one, RandomBytes(random, length));
        if (random->OneIn(40)) packet[random->Below(static_cast<uint32_t>(packet.size()))] ^= 0x40;
        flow.push_back(packet);
        shape.sequence += length;
        shape.id++;
      }
    }
    std::vector<std::string> packets;
    std::vector<size_t> taken(flows.size());
    const uint32_t stay = random->Between(1, 10);
    for (size_t left = flows.size(), turn = 0; left > 0;) {
      if (taken[turn] < flows[turn].size()) {
        packets.push_back(flows[turn][taken[turn]++]);
        if (taken[turn] == flows[turn].size()) left--;
      } else {
        turn = (turn + 1) % flows.size();
      }
      if (random->OneIn(stay)) turn = random->Below(static_cast<uint32_t>(flows.size()));
    }
    const MergedBatch batch = Merge(packets);
    merged += packets.size() - batch.carried.size();
  }
  EXPECT(merged > 10000);
}

void NonsensePassesBy(Random* random) {
  for (int round = 0; round < 500; round++) {
    std::vector<std::string> packets;
    for (int count = 0; count < 40; count++) {
      std::string packet = RandomBytes(random, random->Below(100));
      if (!packet.empty() && random->OneIn(2)) packet[0] = 0x45;
      if (packet.size() > 20 && random->OneIn(2)) {
        SetWord(&packet, 2, static_cast<uint32_t>(packet.size()));
        SetWord(&packet, 6, 0);
        packet[9] = random->OneIn(2) ? 6 : 17;
        SetLong(&packet, 12, 1);
        SetLong(&packet, 16, 2);
      }
      packets.push_back(packet);
    }
    const MergedBatch batch(packets, kConstantIdsToo);
    ExpectInvisible(batch);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc, argv);
  NeighboursOfAFlowAreOnePacket();
  SequenceNumbersAndIdsMayWrap();
  APacketThatSaysOtherwiseStaysAlone();
  WhatTcpHeadersMayDifferIn();
  EchoedCongestionIsMergedWhereAllSayIt();
  AFirstPacketThatEndsARunIsAlone();
  TheLastMayBeShorterAndNoneLonger();
  PacketsWithoutPayloadAreNotMerged();
  OptionsAndFragmentsPassBy();
  AFragmentIsNotOvertakenByItsFlow();
  ABadChecksumPassesByInItsPlace();
  UdpWithoutAChecksumPassesBy();
  UdpWithAnotherLengthPassesBy();
  BytesBeyondThePacketAreNotMergedIn();
  WhatCannotBeMergedIsNotOvertakenByItsFlow();
  AChecksumThatSegmentationDoesNotWritePassesBy();
  ConstantIdsAreMergedOnlyWhereTheyMayBe();
  NoPacketOutgrowsItsLimits();
  InterleavedFlowsAreMergedEach();
  FlowsDifferInEveryPartOfTheirKey();
  MoreFlowsThanTheTableHolds(&random);
  NothingIsLeftOfTheBatchBefore();
  WhatFinishDidCanBeTakenBack();
  RandomFlowsComeThroughUnseen(&random);
  NonsensePassesBy(&random);
  return Summary();
}
