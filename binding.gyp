{
  "targets": [
    {
      "target_name": "flannelette",
      "sources": [
        "native/binding.cc",
        "native/encap_batch.cc",
        "native/decap_batch.cc",
        "native/train.cc",
        "native/scattered_read.cc",
        "native/tun.cc",
        "native/steering.cc",
        "native/udp.cc",
        "native/wait.cc",
        "native/notify.cc",
        "native/privileges.cc",
        "native/descriptor_passing.cc",
        "native/readable_binding.cc",
        "native/checksum.cc",
        "native/inner.cc",
        "native/segment.cc",
        "native/coalesce.cc"
      ],
      "include_dirs": ["native"],
      "cflags": ["-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags!": ["-O2"],
      "defines": ["NAPI_VERSION=8"]
    }
  ]
}
