// The addon's surface: arguments in, integers out. Its callers, src/dataplane/native.ts and those beside it, have
// checked every argument; what comes back below zero is a negated errno value, from which TypeScript makes its errors.
#include <node_api.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include "decap_batch.h"
#include "descriptor_passing.h"
#include "encap_batch.h"
#include "layout.h"
#include "notify.h"
#include "privileges.h"
#include "readable_binding.h"
#include "steering.h"
#include "tun.h"
#include "udp.h"
#include "wait.h"

namespace {

using flannelette::DecapBatch;
using flannelette::EncapBatch;

constexpr size_t kMaxArguments = 7;

struct Arguments {
  explicit Arguments(napi_env environment) : env(environment) {}

  Arguments(napi_env environment, napi_callback_info info) : env(environment) {
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }

  int32_t Integer(size_t index) const {
    int32_t value = 0;
    napi_get_value_int32(env, values[index], &value);
    return value;
  }

  uint32_t Unsigned(size_t index) const {
    uint32_t value = 0;
    napi_get_value_uint32(env, values[index], &value);
    return value;
  }

  std::vector<int> Integers(size_t index) const {
    uint32_t length = 0;
    napi_get_array_length(env, values[index], &length);
    std::vector<int> integers(length);
    for (uint32_t position = 0; position < length; position++) {
      napi_value element = nullptr;
      napi_get_element(env, values[index], position, &element);
      napi_get_value_int32(env, element, &integers[position]);
    }
    return integers;
  }

  bool Flag(size_t index) const {
    bool value = false;
    napi_get_value_bool(env, values[index], &value);
    return value;
  }

  std::string Text(size_t index) const {
    size_t length = 0;
    napi_get_value_string_utf8(env, values[index], nullptr, 0, &length);
    std::string text(length + 1, '\0');
    napi_get_value_string_utf8(env, values[index], &text[0], text.size(), &length);
    text.resize(length);
    return text;
  }

  // Of an array.
  std::vector<std::string> Texts(size_t index) const {
    uint32_t length = 0;
    napi_get_array_length(env, values[index], &length);
    std::vector<std::string> texts;
    for (uint32_t at = 0; at < length; at++) {
      Arguments element(env);
      napi_get_element(env, values[index], at, &element.values[0]);
      texts.push_back(element.Text(0));
    }
    return texts;
  }

  // Of an array.
  std::vector<uint32_t> Numbers(size_t index) const {
    uint32_t length = 0;
    napi_get_array_length(env, values[index], &length);
    std::vector<uint32_t> numbers;
    for (uint32_t at = 0; at < length; at++) {
      Arguments element(env);
      napi_get_element(env, values[index], at, &element.values[0]);
      numbers.push_back(element.Unsigned(0));
    }
    return numbers;
  }

  template <typename Batch>
  Batch* TheBatch() const {
    void* batch = nullptr;
    napi_get_value_external(env, values[0], &batch);
    return static_cast<Batch*>(batch);
  }

  napi_env env;
  size_t count = kMaxArguments;
  napi_value values[kMaxArguments] = {};
};

napi_value Integer(napi_env env, int32_t value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}

napi_value Boolean(napi_env env, bool value) {
  napi_value result = nullptr;
  napi_get_boolean(env, value, &result);
  return result;
}

// openTun(name, multiQueue, virtio): fd
napi_value OpenTun(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::OpenTun(arguments.Text(0).c_str(), arguments.Flag(1), arguments.Flag(2)));
}

// setTunOffloads(fd, checksum, tso, uso)
napi_value SetTunOffloads(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::SetTunOffloads(arguments.Integer(0), arguments.Flag(1), arguments.Flag(2),
                                                  arguments.Flag(3)));
}

// tunLeavesChecksums(fd)
napi_value TunLeavesChecksums(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::TunLeavesChecksums(arguments.Integer(0)));
}

// keepFlowsOnQueues(fd)
napi_value KeepFlowsOnQueues(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::KeepFlowsOnQueues(arguments.Integer(0)));
}

// tunName(fd): name, or a number
napi_value TunName(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  char name[flannelette::kInterfaceNameBytes] = {};
  const int error = flannelette::TunName(arguments.Integer(0), name);
  if (error < 0) return Integer(env, error);
  napi_value result = nullptr;
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &result);
  return result;
}

// setTunPersistent(fd, persistent)
napi_value SetTunPersistent(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::SetTunPersistent(arguments.Integer(0), arguments.Flag(1)));
}

// queueShape(fd): [name, multiQueue, virtio, detached], or a number
napi_value QueueShape(napi_env env, napi_callback_info info) {
  flannelette::QueueShape shape{};
  char name[flannelette::kInterfaceNameBytes] = {};
  const int error = flannelette::QueueShapeOf(Arguments(env, info).Integer(0), &shape, name);
  if (error < 0) return Integer(env, error);
  napi_value result = nullptr;
  napi_value text = nullptr;
  napi_create_array_with_length(env, 4, &result);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text);
  napi_set_element(env, result, 0, text);
  napi_set_element(env, result, 1, Boolean(env, shape.multi_queue));
  napi_set_element(env, result, 2, Boolean(env, shape.virtio));
  napi_set_element(env, result, 3, Boolean(env, shape.detached));
  return result;
}

// detachQueue(fd)
napi_value DetachQueue(napi_env env, napi_callback_info info) {
  return Integer(env, flannelette::DetachQueue(Arguments(env, info).Integer(0)));
}

// boundSocket(fd): [address, port, gro], or a number
napi_value BoundSocket(napi_env env, napi_callback_info info) {
  flannelette::BoundSocket bound{};
  const int error = flannelette::BoundSocketOf(Arguments(env, info).Integer(0), &bound);
  if (error < 0) return Integer(env, error);
  napi_value result = nullptr;
  napi_create_array_with_length(env, 3, &result);
  napi_set_element(env, result, 0, Integer(env, static_cast<int32_t>(bound.address)));
  napi_set_element(env, result, 1, Integer(env, bound.port));
  napi_set_element(env, result, 2, Boolean(env, bound.gro));
  return result;
}

// openUdp(address, port, shared, bufferBytes): fd
napi_value OpenUdp(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::OpenUdp(arguments.Unsigned(0), static_cast<uint16_t>(arguments.Unsigned(1)),
                                           arguments.Flag(2), arguments.Integer(3)));
}

// tryUdpOffload(fd, offload)
napi_value TryUdpOffload(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::TryUdpOffload(arguments.Integer(0),
                                                 static_cast<flannelette::Offload>(arguments.Unsigned(1))));
}

// pathMtu(source, destination): bytes
napi_value PathMtu(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::PathMtu(arguments.Unsigned(0), arguments.Unsigned(1)));
}

// closeFd(fd)
napi_value CloseFd(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, close(arguments.Integer(0)) < 0 ? -errno : 0);
}

// openWakeup(): fd
napi_value OpenWakeup(napi_env env, napi_callback_info) { return Integer(env, flannelette::OpenWakeup()); }

// signalWakeup(fd)
napi_value SignalWakeup(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::SignalWakeup(arguments.Integer(0)));
}

// notifySocket(path, message, fds)
napi_value NotifySocket(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::string path = arguments.Text(0);
  const std::string message = arguments.Text(1);
  const std::vector<int> fds = arguments.Integers(2);
  return Integer(env, flannelette::NotifySocket(path.data(), path.size(), message.data(), message.size(), fds.data(),
                                                fds.size()));
}

// notifyBarrier(path, message, milliseconds)
napi_value NotifyBarrier(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::string path = arguments.Text(0);
  const std::string message = arguments.Text(1);
  return Integer(env, flannelette::NotifyBarrier(path.data(), path.size(), message.data(), message.size(),
                                                 arguments.Integer(2)));
}

// listenForMessages, connectForMessages(path): fd
template <int (*open)(const char*, size_t)>
napi_value OpenForMessages(napi_env env, napi_callback_info info) {
  const std::string path = Arguments(env, info).Text(0);
  return Integer(env, open(path.data(), path.size()));
}

// acceptConnection(listener): fd
napi_value AcceptConnection(napi_env env, napi_callback_info info) {
  return Integer(env, flannelette::AcceptConnection(Arguments(env, info).Integer(0)));
}

// sendMessage(fd, message, fds)
napi_value SendMessage(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::string message = arguments.Text(1);
  const std::vector<int> fds = arguments.Integers(2);
  return Integer(env, flannelette::SendWithDescriptors(arguments.Integer(0), nullptr, 0, message.data(), message.size(),
                                                       fds.data(), fds.size()));
}

// receiveMessage(fd): [message, ...fds], or a number: 0 when the other end is closed
napi_value ReceiveMessage(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::vector<char> message(flannelette::kMaxMessageBytes);
  int fds[flannelette::kMaxPassedDescriptors];
  size_t count = 0;
  const int length = flannelette::ReceiveWithDescriptors(arguments.Integer(0), message.data(), message.size(), fds, &count);
  if (length <= 0) return Integer(env, length);
  napi_value result = nullptr;
  napi_value text = nullptr;
  napi_create_array_with_length(env, 1 + count, &result);
  napi_create_string_utf8(env, message.data(), static_cast<size_t>(length), &text);
  napi_set_element(env, result, 0, text);
  for (size_t index = 0; index < count; index++) {
    napi_set_element(env, result, static_cast<uint32_t>(1 + index), Integer(env, fds[index]));
  }
  return result;
}

// setInherited(fd, inherited)
napi_value SetInherited(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::SetInherited(arguments.Integer(0), arguments.Flag(1)));
}

napi_value Unsigned(napi_env env, uint32_t value) {
  napi_value result = nullptr;
  napi_create_uint32(env, value, &result);
  return result;
}

// [uid, gid, ...groups]
napi_value IdentityArray(napi_env env, const flannelette::Identity& identity) {
  napi_value result = nullptr;
  napi_create_array_with_length(env, 2 + identity.groups.size(), &result);
  napi_set_element(env, result, 0, Unsigned(env, identity.uid));
  napi_set_element(env, result, 1, Unsigned(env, identity.gid));
  uint32_t index = 2;
  for (const gid_t group : identity.groups) napi_set_element(env, result, index++, Unsigned(env, group));
  return result;
}

// lookUpUser(name): [uid, gid, ...groups], or a number
napi_value LookUpUser(napi_env env, napi_callback_info info) {
  flannelette::Identity identity{};
  const int error = flannelette::LookUpUser(Arguments(env, info).Text(0).c_str(), &identity);
  return error < 0 ? Integer(env, error) : IdentityArray(env, identity);
}

// lookUpGroup(name): [gid], or a number
napi_value LookUpGroup(napi_env env, napi_callback_info info) {
  gid_t gid = 0;
  const int error = flannelette::LookUpGroup(Arguments(env, info).Text(0).c_str(), &gid);
  if (error < 0) return Integer(env, error);
  napi_value result = nullptr;
  napi_create_array_with_length(env, 1, &result);
  napi_set_element(env, result, 0, Unsigned(env, gid));
  return result;
}

// peerIdentity(fd): [uid, gid, ...groups], or a number
napi_value PeerIdentity(napi_env env, napi_callback_info info) {
  flannelette::Identity identity{};
  const int error = flannelette::PeerIdentity(Arguments(env, info).Integer(0), &identity);
  return error < 0 ? Integer(env, error) : IdentityArray(env, identity);
}

// executeConfined([uid, gid, ...groups] or [], capabilities as [lower, upper half], readable, inheritedFds,
// program, arguments, environment): [step, error]; only when it failed
napi_value ExecuteConfined(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::vector<uint32_t> numbers = arguments.Numbers(0);
  const std::vector<uint32_t> halves = arguments.Numbers(1);
  flannelette::Identity identity{};
  if (numbers.size() >= 2) {
    identity.uid = numbers[0];
    identity.gid = numbers[1];
    identity.groups.assign(numbers.begin() + 2, numbers.end());
  }
  const flannelette::Confinement confinement = {
      numbers.empty() ? nullptr : &identity, halves[0] | static_cast<uint64_t>(halves[1]) << 32, arguments.Texts(2),
      arguments.Integer(3), arguments.Text(4), arguments.Texts(5), arguments.Texts(6)};
  const flannelette::ConfinementFailure failure = flannelette::ExecuteConfined(confinement);
  napi_value result = nullptr;
  napi_value step = nullptr;
  napi_create_array_with_length(env, 2, &result);
  napi_create_string_utf8(env, failure.step, NAPI_AUTO_LENGTH, &step);
  napi_set_element(env, result, 0, step);
  napi_set_element(env, result, 1, Integer(env, -failure.error));
  return result;
}

// createEncapBatch, createDecapBatch(arena, descriptors, tun, socket, wakeup, offloads): batch. The caller keeps arena and
// descriptors alive as long as the batch is used.
template <typename Batch>
napi_value CreateBatch(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  void* arena = nullptr;
  size_t arena_bytes = 0;
  napi_get_buffer_info(env, arguments.values[0], &arena, &arena_bytes);
  void* descriptors = nullptr;
  size_t words = 0;
  napi_get_typedarray_info(env, arguments.values[1], nullptr, &words, &descriptors, nullptr, nullptr);
  auto batch = std::make_unique<Batch>(static_cast<uint8_t*>(arena), arena_bytes, static_cast<int32_t*>(descriptors),
                                       words / flannelette::kDescriptorWords, arguments.Integer(2),
                                       arguments.Integer(3), arguments.Integer(4), arguments.Unsigned(5));
  napi_value result = nullptr;
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Batch*>(data); };
  if (napi_create_external(env, batch.get(), finalize, nullptr, &result) == napi_ok) batch.release();
  return result;
}

// encapReceive, decapReceive(batch): count
template <typename Batch>
napi_value Receive(napi_env env, napi_callback_info info) {
  return Integer(env, Arguments(env, info).TheBatch<Batch>()->Receive());
}

// decapHolds(batch)
napi_value DecapHolds(napi_env env, napi_callback_info info) {
  return Boolean(env, Arguments(env, info).TheBatch<DecapBatch>()->Holds());
}

// encapTransmit, decapTransmit(batch, count): steps down that are to be taken
template <typename Batch>
napi_value Transmit(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Batch* const batch = arguments.TheBatch<Batch>();
  batch->Transmit(arguments.Unsigned(1));
  return Integer(env, static_cast<int32_t>(batch->offloads().pending()));
}

// encapTakeStepDown, decapTakeStepDown(batch): [offload, error, address]; only when one is there
template <typename Batch>
napi_value TakeStepDown(napi_env env, napi_callback_info info) {
  const flannelette::StepDown step = Arguments(env, info).TheBatch<Batch>()->offloads().Take();
  napi_value result = nullptr;
  napi_create_array_with_length(env, 3, &result);
  napi_set_element(env, result, 0, Integer(env, static_cast<int32_t>(step.offload)));
  napi_set_element(env, result, 1, Integer(env, step.error));
  napi_set_element(env, result, 2, Integer(env, static_cast<int32_t>(step.address)));
  return result;
}

// encapCut(batch, descriptor, segment, keptBytes): bytes; a segment of -1 is the whole super-packet
napi_value EncapCut(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  EncapBatch* const batch = arguments.TheBatch<EncapBatch>();
  return Integer(env, batch->Cut(arguments.Unsigned(1), arguments.Integer(2), arguments.Unsigned(3)));
}

// pause(wakeup, milliseconds)
napi_value Pause(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return Integer(env, flannelette::Pause(arguments.Integer(0), arguments.Integer(1)));
}

napi_property_descriptor Function(const char* name, napi_callback callback) {
  return {name, nullptr, callback, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
      {"layoutVersion", nullptr, nullptr, nullptr, nullptr, Integer(env, flannelette::kLayoutVersion), napi_enumerable,
       nullptr},
      {"deviceDeleted", nullptr, nullptr, nullptr, nullptr, Integer(env, EBADFD), napi_enumerable, nullptr},
      Function("openTun", OpenTun),
      Function("setTunOffloads", SetTunOffloads),
      Function("tunLeavesChecksums", TunLeavesChecksums),
      Function("keepFlowsOnQueues", KeepFlowsOnQueues),
      Function("tunName", TunName),
      Function("setTunPersistent", SetTunPersistent),
      Function("queueShape", QueueShape),
      Function("detachQueue", DetachQueue),
      Function("openUdp", OpenUdp),
      Function("boundSocket", BoundSocket),
      Function("tryUdpOffload", TryUdpOffload),
      Function("pathMtu", PathMtu),
      Function("closeFd", CloseFd),
      Function("openWakeup", OpenWakeup),
      Function("signalWakeup", SignalWakeup),
      Function("notifySocket", NotifySocket),
      Function("lookUpUser", LookUpUser),
      Function("lookUpGroup", LookUpGroup),
      Function("peerIdentity", PeerIdentity),
      Function("executeConfined", ExecuteConfined),
      Function("notifyBarrier", NotifyBarrier),
      Function("setInherited", SetInherited),
      Function("listenForMessages", OpenForMessages<flannelette::ListenForMessages>),
      Function("connectForMessages", OpenForMessages<flannelette::ConnectForMessages>),
      Function("acceptConnection", AcceptConnection),
      Function("sendMessage", SendMessage),
      Function("receiveMessage", ReceiveMessage),
      Function("watchReadable", flannelette::WatchReadable),
      Function("unwatch", flannelette::Unwatch),
      Function("createEncapBatch", CreateBatch<EncapBatch>),
      Function("createDecapBatch", CreateBatch<DecapBatch>),
      Function("encapReceive", Receive<EncapBatch>),
      Function("decapReceive", Receive<DecapBatch>),
      Function("decapHolds", DecapHolds),
      Function("encapTransmit", Transmit<EncapBatch>),
      Function("decapTransmit", Transmit<DecapBatch>),
      Function("encapTakeStepDown", TakeStepDown<EncapBatch>),
      Function("decapTakeStepDown", TakeStepDown<DecapBatch>),
      Function("encapCut", EncapCut),
      Function("pause", Pause),
  };
  napi_define_properties(env, exports, sizeof properties / sizeof properties[0], properties);
  return exports;
}
