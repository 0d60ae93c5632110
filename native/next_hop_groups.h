// The packets of one batch by next hop: hops in the order in which each first appeared, the packets of one in the order
// in which they were added. Order within a next hop is order within each flow.
#ifndef FLANNELETTE_NEXT_HOP_GROUPS_H_
#define FLANNELETTE_NEXT_HOP_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace flannelette {

class NextHopGroups {
 public:
  static constexpr int32_t kEnd = -1;

  struct Group {
    uint32_t address;
    uint16_t port;
    int32_t first;  // packet; next() leads on from it
    int32_t last;
  };

  // `capacity` is the most packets of a batch, their numbers are below it.
  explicit NextHopGroups(size_t capacity) : groups_(new Group[capacity]), next_(new int32_t[capacity]) {
    while (places_count_ < 2 * capacity) places_count_ *= 2;
    places_.reset(new uint32_t[places_count_]);
    Clear();
  }

  void Clear() {
    count_ = 0;
    memset(places_.get(), 0, places_count_ * sizeof places_[0]);
  }

  void Add(int32_t packet, uint32_t address, uint16_t port) {
    next_[packet] = kEnd;
    Group* const group = Find(address, port);
    if (group->first == kEnd) {
      group->first = packet;
    } else {
      next_[group->last] = packet;
    }
    group->last = packet;
  }

  size_t size() const { return count_; }
  const Group& operator[](size_t index) const { return groups_[index]; }
  int32_t next(int32_t packet) const { return next_[packet]; }

 private:
  Group* Find(uint32_t address, uint16_t port) {
    if (count_ > 0 && groups_[count_ - 1].address == address && groups_[count_ - 1].port == port) {
      return &groups_[count_ - 1];
    }
    size_t place = (address * 0x9e3779b1u + port) & (places_count_ - 1);
    for (; places_[place] != 0; place = (place + 1) & (places_count_ - 1)) {
      Group* const group = &groups_[places_[place] - 1];
      if (group->address == address && group->port == port) return group;
    }
    groups_[count_] = {address, port, kEnd, kEnd};
    places_[place] = static_cast<uint32_t>(++count_);
    return &groups_[count_ - 1];
  }

  size_t count_ = 0;
  size_t places_count_ = 64;  // a power of two, never more than half of them taken
  std::unique_ptr<uint32_t[]> places_;  // by a hash of the next hop: its group's number plus one
  const std::unique_ptr<Group[]> groups_;
  const std::unique_ptr<int32_t[]> next_;
};

}  // namespace flannelette

#endif
