// Tells the main thread's event loop that a descriptor is readable, for sockets of which Node knows nothing.
#ifndef FLANNELETTE_READABLE_BINDING_H_
#define FLANNELETTE_READABLE_BINDING_H_

#include <node_api.h>

namespace flannelette {

// watchReadable(fd, callback): watch. The callback is called as long as there is something to read, or the other end is
// closed; the descriptor stays open until after unwatch(watch). A negated errno value where that cannot be.
napi_value WatchReadable(napi_env env, napi_callback_info info);
napi_value Unwatch(napi_env env, napi_callback_info info);

}  // namespace flannelette

#endif
