#include "readable_binding.h"

#include <cerrno>

#include <uv.h>

namespace flannelette {

namespace {

struct Watch {
  uv_poll_t handle;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
};

void OnReadable(uv_poll_t* handle, int, int) {
  const Watch& watch = *static_cast<Watch*>(handle->data);
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(watch.env, &scope);
  napi_value callback = nullptr;
  napi_value receiver = nullptr;
  napi_get_reference_value(watch.env, watch.callback, &callback);
  napi_get_global(watch.env, &receiver);
  napi_make_callback(watch.env, watch.context, receiver, callback, 0, nullptr, nullptr);
  napi_close_handle_scope(watch.env, scope);
}

}  // namespace

napi_value WatchReadable(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2] = {};
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t fd = -1;
  napi_get_value_int32(env, arguments[0], &fd);
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* const watch = new Watch{};
  watch->env = env;
  watch->handle.data = watch;
  int error = uv_poll_init(loop, &watch->handle, fd);
  if (error < 0) {
    delete watch;
    napi_value result = nullptr;
    napi_create_int32(env, error, &result);
    return result;
  }
  napi_value name = nullptr;
  napi_create_string_utf8(env, "flannelette:readable", NAPI_AUTO_LENGTH, &name);
  napi_create_reference(env, arguments[1], 1, &watch->callback);
  napi_async_init(env, nullptr, name, &watch->context);
  uv_poll_start(&watch->handle, UV_READABLE | UV_DISCONNECT, OnReadable);
  napi_value result = nullptr;
  napi_create_external(env, watch, nullptr, nullptr, &result);
  return result;
}

napi_value Unwatch(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  void* data = nullptr;
  napi_get_value_external(env, argument, &data);
  auto* const watch = static_cast<Watch*>(data);
  uv_poll_stop(&watch->handle);
  napi_delete_reference(env, watch->callback);
  napi_async_destroy(env, watch->context);
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->handle),
           [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
  return nullptr;
}

}  // namespace flannelette
