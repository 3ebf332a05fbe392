// What libtorch has and tch 0.24 has not: 32-bit unsigned tensors, undefined tensors and foreign devices looked
// at without a panic, pinned copies on streams of their own, memory figures, gradients for given output
// gradients, TorchScript made of source text, and products with weights that oneDNN has laid out.
//
// Every function that can fail answers 0, or 1 for a failure. After a 1, skep_last_error() is what went wrong,
// for this thread and until its next call. No C++ exception leaves this file. The declarations stand in src/shim/ffi.rs.
//
// Streams, events and memory go through libtorch's interfaces for any device, so that one and the same file
// compiles with a libtorch that has CUDA and with one that has not.

#include "common.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

using namespace skep;

namespace {

// The dims of tensors joined along dim 0.
std::vector<int64_t> joined_dims(const std::vector<Tensor> &parts) {
  std::vector<int64_t> dims = parts.at(0).sizes().vec();
  dims.at(0) = 0;
  for (const Tensor &part : parts) dims[0] += part.size(0);
  return dims;
}

std::vector<Tensor> tensors(const Tensor *const *list, size_t count) {
  std::vector<Tensor> all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) all.push_back(*list[i]);
  return all;
}

void check_usable(const Tensor &tensor) {
  TORCH_CHECK(tensor.defined(), "tensor is undefined, expected one with elements");
  TORCH_CHECK(tensor.layout() == at::kStrided, "tensor has layout ", tensor.layout(), ", expected Strided");
}

// Copies a tensor's bytes into a larger one, and fills the rest: each byte is written once.
char *pad(char *out, const char *in, at::IntArrayRef from, at::IntArrayRef to, size_t item, const uint8_t *element) {
  size_t count = item;
  for (int64_t dim : from) count *= static_cast<size_t>(dim);
  if (from == to) {
    std::memcpy(out, in, count);
    return out + count;
  }
  size_t block = count / static_cast<size_t>(std::max<int64_t>(from[0], 1));
  for (int64_t i = 0; i < from[0]; ++i) out = pad(out, in + i * block, from.slice(1), to.slice(1), item, element);
  size_t rest = static_cast<size_t>(to[0] - from[0]);
  for (int64_t dim : to.slice(1)) rest *= static_cast<size_t>(dim);
  for (size_t i = 0; i < rest; ++i, out += item) std::memcpy(out, element, item);
  return out;
}

Tensor pinned(at::IntArrayRef dims, at::ScalarType dtype) {
  return at::empty(dims, at::TensorOptions().dtype(dtype).pinned_memory(true));
}

// Copies a tensor in pinned memory to a CUDA device, on a stream of its own. The caller waits for its copy, and no
// other thread does.
Tensor upload(const Tensor &staged, c10::Device device) {
  c10::impl::VirtualGuardImpl guard(device.type());
  c10::Stream compute = guard.getDefaultStream(device);
  c10::Stream copies = guard.getStreamFromGlobalPool(device);
  c10::StreamGuard on_copies(copies);
  Tensor uploaded = staged.to(device, /*non_blocking=*/true);
  guard.synchronizeStream(copies);
  // Else the memory could be given to the next copy while a block still reads it.
  uploaded.record_stream(compute);
  return uploaded;
}

// Copies a tensor from its CUDA device into pinned memory, on a stream of its own. What makes the tensor must be
// done: the runtime synchronizes the device after each batch.
Tensor download(const Tensor &tensor) {
  at::NoGradGuard no_grad;
  c10::impl::VirtualGuardImpl guard(tensor.device().type());
  c10::Stream copies = guard.getStreamFromGlobalPool(tensor.device());
  c10::StreamGuard on_copies(copies);
  // A view is put together on the device, so that only its own elements cross over.
  Tensor whole = tensor.contiguous();
  Tensor staged = pinned(whole.sizes(), whole.scalar_type());
  staged.copy_(whole, /*non_blocking=*/true);
  guard.synchronizeStream(copies);
  return staged;
}

Tensor on_host(const Tensor &tensor) {
  check_usable(tensor);
  if (tensor.is_cpu()) return tensor;
  TORCH_CHECK(tensor.is_cuda(), "tensor is on ", tensor.device(), ", expected cpu or cuda");
  return download(tensor);
}

}  // namespace

extern "C" {

const char *skep_last_error() { return last_error.c_str(); }

// The scalar type and the dims, of which there is room for `capacity`.
int skep_describe(const Tensor *tensor, int *dtype, int64_t *dims, size_t capacity, size_t *rank) {
  return guarded([&] {
    check_usable(*tensor);
    at::IntArrayRef sizes = tensor->sizes();
    TORCH_CHECK(sizes.size() <= capacity, "tensor has ", sizes.size(), " dims, expected at most ", capacity);
    *dtype = static_cast<int>(tensor->scalar_type());
    *rank = sizes.size();
    std::copy(sizes.begin(), sizes.end(), dims);
  });
}

int skep_from_bytes(const uint8_t *bytes, size_t count, const int64_t *dims, size_t rank, int dtype, Tensor **out) {
  return guarded([&] {
    Tensor tensor = at::empty(at::IntArrayRef(dims, rank), at::TensorOptions().dtype(static_cast<at::ScalarType>(dtype)));
    TORCH_CHECK(tensor.nbytes() == count, "tensor has ", tensor.nbytes(), " bytes, expected ", count);
    if (count > 0) std::memcpy(tensor.mutable_data_ptr(), bytes, count);
    *out = given(std::move(tensor));
  });
}

int skep_to_bytes(const Tensor *tensor, uint8_t *bytes, size_t count) {
  return guarded([&] {
    TORCH_CHECK(tensor->is_cpu(), "tensor is on ", tensor->device(), ", expected cpu");
    // Lazy negation and conjugation would not be seen in the bytes.
    Tensor whole = tensor->detach().resolve_neg().resolve_conj().contiguous();
    TORCH_CHECK(whole.nbytes() == count, "tensor has ", whole.nbytes(), " bytes, expected ", count);
    if (count > 0) std::memcpy(bytes, whole.const_data_ptr(), count);
  });
}

// Joins tensors along dim 0, without their graphs, on the host (`index` below 0) or a CUDA device. One alone on
// the host is passed on without a copy. Joins of more than `limit` bytes are not made: then the answer is 2, and
// `bytes` is their size.
int skep_join(const Tensor *const *parts, size_t count, int index, uint64_t limit, uint64_t *bytes, Tensor **out) {
  bool too_large = false;
  int status = guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<Tensor> all;
    all.reserve(count);
    *bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      all.push_back(on_host(*parts[i]));
      *bytes += all.back().nbytes();
    }
    too_large = count > 1 && *bytes > limit;
    if (too_large) return;
    if (index >= 0) {
      Tensor staged = pinned(joined_dims(all), all.at(0).scalar_type());
      at::cat_out(staged, all, 0);
      *out = given(upload(staged, cuda(index)));
    } else {
      *out = given(count == 1 ? all[0].detach().contiguous() : at::cat(all, 0));
    }
  });
  return too_large ? 2 : status;
}

// Joins tensors along dim 0 as skep_join does, each filled up along its other dims to `dims` with `element`, which has
// `item` bytes.
int skep_join_padded(const Tensor *const *parts, size_t count, const int64_t *dims, size_t rank, const uint8_t *element,
                     size_t item, int index, uint64_t limit, uint64_t *bytes, Tensor **out) {
  bool too_large = false;
  int status = guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<Tensor> all;
    all.reserve(count);
    std::vector<int64_t> whole(dims, dims + rank);
    whole.insert(whole.begin(), 0);
    for (size_t i = 0; i < count; ++i) {
      all.push_back(on_host(*parts[i]).detach().resolve_neg().resolve_conj().contiguous());
      const Tensor &part = all.back();
      TORCH_CHECK(part.dim() == static_cast<int64_t>(rank) + 1, "tensor has ", part.dim(), " dims, expected ", rank + 1);
      TORCH_CHECK(part.scalar_type() == all[0].scalar_type(), "tensors of two element types are joined");
      TORCH_CHECK(part.element_size() == static_cast<int64_t>(item), "padding has ", item, " bytes, expected ", part.element_size());
      for (size_t d = 0; d < rank; ++d)
        TORCH_CHECK(part.size(d + 1) <= dims[d], "tensor has ", part.size(d + 1), " along dim ", d + 1, ", expected at most ", dims[d]);
      whole[0] += part.size(0);
    }
    *bytes = item;
    for (int64_t dim : whole) *bytes *= static_cast<uint64_t>(dim);
    too_large = *bytes > limit;
    if (too_large) return;
    Tensor joined = index >= 0 ? pinned(whole, all.at(0).scalar_type())
                               : at::empty(whole, at::TensorOptions().dtype(all.at(0).scalar_type()));
    char *place = static_cast<char *>(joined.mutable_data_ptr());
    for (const Tensor &part : all) {
      whole[0] = part.size(0);
      place = pad(place, static_cast<const char *>(part.const_data_ptr()), part.sizes(), whole, item, element);
    }
    *out = given(index >= 0 ? upload(joined, cuda(index)) : joined);
  });
  return too_large ? 2 : status;
}

// The tensor on the host, without its graph.
int skep_to_host(const Tensor *tensor, Tensor **out) {
  return guarded([&] { *out = given(on_host(*tensor).detach()); });
}

// How many CUDA devices there are; 0 where this libtorch, or the machine, has no CUDA. Where there are any, CUDA
// is made ready, which libtorch else does at its first tensor.
int skep_cuda_count(int *count) {
  return guarded([&] {
    *count = static_cast<int>(torch::cuda::device_count());
    if (*count > 0) at::globalContext().lazyInitDevice(c10::kCUDA);
  });
}

// Sets whether this thread records graphs, and tells whether it did.
// Has this thread take numbers below the smallest normal one for 0, where the processor can.
void skep_flush_denormals() { at::globalContext().setFlushDenormal(true); }

bool skep_grad_mode() { return c10::GradMode::is_enabled(); }

// Lays a weight [output, input] on the host out for oneDNN; null where this libtorch has no oneDNN, or oneDNN no bf16 on this
// processor.
int skep_pack_linear(const Tensor *weight, Tensor **out) {
  return guarded([&] {
    *out = nullptr;
    auto pack = c10::Dispatcher::singleton().findSchema({"mkldnn::_reorder_linear_weight", ""});
    if (!pack || !at::globalContext().hasMKLDNN()) return;
    if (weight->scalar_type() == at::kBFloat16) {
      auto has_bf16 = c10::Dispatcher::singleton().findSchema({"mkldnn::_is_mkldnn_bf16_supported", ""});
      torch::jit::Stack answer;
      if (has_bf16) has_bf16->callBoxed(answer);
      if (answer.empty() || !answer.at(0).toBool()) return;
    }
    at::NoGradGuard no_grad;
    torch::jit::Stack stack{weight->detach().contiguous(), c10::IValue()};
    pack->callBoxed(stack);
    *out = given(stack.at(0).toTensor());
  });
}

// x · weightᵀ + bias, and a function of it, with a weight that was laid out. `function` is oneDNN's name for it.
int skep_packed_linear(const Tensor *x, const Tensor *packed, const Tensor *bias, const char *function, Tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    static const c10::OperatorHandle linear =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "");
    std::string name(function);
    c10::IValue algorithm = name == "gelu" ? c10::IValue("none") : c10::IValue("");
    torch::jit::Stack stack{*x, *packed, bias ? c10::IValue(*bias) : c10::IValue(), name,
                            c10::List<std::optional<at::Scalar>>(), algorithm};
    linear.callBoxed(stack);
    *out = given(stack.at(0).toTensor());
  });
}

bool skep_set_grad_mode(bool on) {
  bool before = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(on);
  return before;
}

// Waits for the stream that blocks run on, not for copies.
int skep_synchronize(int index) {
  return guarded([&] {
    c10::Device device = cuda(index);
    c10::impl::VirtualGuardImpl guard(device.type());
    guard.synchronizeStream(guard.getDefaultStream(device));
  });
}

// Has operations of this thread use so many threads, and returns how many they used; 0, and does nothing, where libtorch
// has no OpenMP. Unlike at::set_num_threads it says nothing to other threads.
int skep_swap_threads(int count) {
#if defined(__linux__)
  static auto get = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  static auto set = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (get && set) {
    at::get_num_threads();  // Where a thread asks for the first time, it is given its number.
    int before = get();
    set(count);
    return before;
  }
#endif
  return 0;
}

// Gives memory of all CUDA devices back that is kept for later.
int skep_empty_cache() {
  return guarded([] { at::getDeviceAllocator(c10::kCUDA)->emptyCache(); });
}

// Bytes that are free, and bytes in all.
int skep_memory(int index, uint64_t *free_bytes, uint64_t *total_bytes) {
  return guarded([&] {
    auto figures = at::getDeviceAllocator(c10::kCUDA)->getMemoryInfo(static_cast<c10::DeviceIndex>(index));
    *free_bytes = figures.first;
    *total_bytes = figures.second;
  });
}

// Where the elements of a tensor lie: its own identity, that of its storage, and the first byte and the one behind the
// last. All are numbers to compare, not to follow.
int skep_place(const Tensor *tensor, uint64_t *identity, uint64_t *storage, uint64_t *begin, uint64_t *end) {
  return guarded([&] {
    check_usable(*tensor);
    *identity = reinterpret_cast<uint64_t>(tensor->unsafeGetTensorImpl());
    *storage = reinterpret_cast<uint64_t>(tensor->storage().unsafeGetStorageImpl());
    *begin = reinterpret_cast<uint64_t>(tensor->const_data_ptr());
    uint64_t last = 0;
    for (int64_t dim = 0; dim < tensor->dim(); ++dim)
      if (tensor->size(dim) > 0) last += (tensor->size(dim) - 1) * tensor->stride(dim);
    *end = tensor->numel() > 0 ? *begin + (last + 1) * tensor->element_size() : *begin;
  });
}

// Whether two tensors are the same elements in the same order.
int skep_same(const Tensor *a, const Tensor *b, bool *same) {
  return guarded([&] {
    *same = a->const_data_ptr() == b->const_data_ptr() && a->scalar_type() == b->scalar_type() &&
            a->sizes() == b->sizes() && a->strides() == b->strides();
  });
}

// A copy in memory of its own, without a graph.
int skep_copy(const Tensor *tensor, Tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *out = given(tensor->detach().clone());
  });
}

// Loads the CUDA half of libtorch from where the rest of it is. The linker leaves it out of programs, because
// none of them names a symbol of it.
int skep_load_cuda() {
  return guarded([&] {
#if defined(__linux__)
    Dl_info place;
    const void *symbol = reinterpret_cast<const void *>(static_cast<void (*)(bool)>(&c10::GradMode::set_enabled));
    TORCH_CHECK(dladdr(symbol, &place) && place.dli_fname, "the folder of libtorch cannot be found");
    std::string file(place.dli_fname);
    file = file.substr(0, file.rfind('/') + 1) + "libtorch_cuda.so";
    TORCH_CHECK(dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL), dlerror());
#endif
  });
}

// The gradients of sum(outputs * gradients) by `leaves`; null where none flows. Parameters' own `grad` stays as
// it is.
int skep_gradients(const Tensor *const *outputs, const Tensor *const *gradients, size_t count,
                   const Tensor *const *leaves, size_t leaf_count, Tensor **out) {
  return guarded([&] {
    auto found = torch::autograd::grad(tensors(outputs, count), tensors(leaves, leaf_count),
                                       tensors(gradients, count), /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < leaf_count; ++i) out[i] = found[i].defined() ? given(found[i]) : nullptr;
  });
}

}  // extern "C"
