// What the files of the shim share.

#pragma once

#include <ATen/ATen.h>
#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <exception>
#include <string>
#include <utility>

namespace skep {

using at::Tensor;

inline thread_local std::string last_error;

// Answers 0, or 1 for an exception, whose text stays for this thread.
template <typename F>
int guarded(F &&body) {
  try {
    body();
    return 0;
  } catch (const c10::Error &error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception &error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an exception of unknown type";
  }
  return 1;
}

inline Tensor *given(Tensor tensor) { return new Tensor(std::move(tensor)); }

inline c10::Device cuda(int index) { return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)); }

// The processor (`index` below 0) or a CUDA device.
inline c10::Device device(int index) { return index < 0 ? c10::Device(c10::kCPU) : cuda(index); }

}  // namespace skep
