// Next hops to which the kernel would not send a train, remembered for a minute each: the device or path behind them may
// be another one by then. Nothing tells when it is, so time is all there is to forget by; trying more often would pay
// with a refused send each time, and until then packets go one by one.
#ifndef FLANNELETTE_REFUSED_NEXT_HOPS_H_
#define FLANNELETTE_REFUSED_NEXT_HOPS_H_

#include <cstddef>
#include <cstdint>
#include <ctime>

namespace flannelette {

class RefusedNextHops {
 public:
  static constexpr int64_t kRememberedSeconds = 60;

  // Of several that fall into one place the latest is remembered; another is then tried, and refused, once more.
  void Remember(uint32_t address) {
    any_ = true;
    places_[Place(address)] = {address, Now() + kRememberedSeconds};
  }

  bool Contains(uint32_t address) const {
    if (!any_) return false;
    const Entry& entry = places_[Place(address)];
    return entry.address == address && entry.until > Now();
  }

 private:
  struct Entry {
    uint32_t address;
    int64_t until;
  };
  static constexpr size_t kPlaces = 256;

  static size_t Place(uint32_t address) { return (address * 0x9e3779b1u) >> 24; }
  static int64_t Now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
  }

  bool any_ = false;
  Entry places_[kPlaces] = {};
};

}  // namespace flannelette

#endif
