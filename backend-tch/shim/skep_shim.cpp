// What libtorch has and tch 0.24 has not: 32-bit unsigned tensors, undefined tensors and foreign devices looked
// at without a panic, pinned copies on streams of their own, memory figures, gradients for given output
// gradients, TorchScript made of source text, and products with weights that oneDNN has laid out.
//
// Every function that can fail answers 0, or 1 for a failure. After a 1, skep_last_error() is what went wrong,
// for this thread and until its next call. No C++ exception leaves this file. The declarations stand in src/shim/ffi.rs.
//
// Streams, events and memory go through libtorch's interfaces for any device, so that one and the same file
// compiles with a libtorch that has CUDA and with one that has not.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/script.h>

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

using at::Tensor;

namespace {

thread_local std::string last_error;

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

Tensor *given(Tensor tensor) { return new Tensor(std::move(tensor)); }

c10::Device cuda(int index) { return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)); }

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

Tensor pinned(at::IntArrayRef dims, at::ScalarType dtype) {
  return at::empty(dims, at::TensorOptions().dtype(dtype).pinned_memory(true));
}

// Joins host tensors in pinned memory and copies them to a CUDA device, on a stream of their own. The caller
// waits for its copy, and no other thread does.
Tensor upload(const std::vector<Tensor> &parts, c10::Device device) {
  Tensor staged = pinned(joined_dims(parts), parts.at(0).scalar_type());
  at::cat_out(staged, parts, 0);
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
      *out = given(upload(all, cuda(index)));
    } else {
      *out = given(count == 1 ? all[0].detach().contiguous() : at::cat(all, 0));
    }
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

// Lays a weight [output, input] on the host out for oneDNN; null where this libtorch has no oneDNN.
int skep_pack_linear(const Tensor *weight, Tensor **out) {
  return guarded([&] {
    *out = nullptr;
    auto pack = c10::Dispatcher::singleton().findSchema({"mkldnn::_reorder_linear_weight", ""});
    if (!pack || !at::globalContext().hasMKLDNN()) return;
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

// Writes a TorchScript file: methods in TorchScript's source text, and tensors that they find under `self`.
// `trainable` tells parameters from buffers.
int skep_script_save(const char *source, const char *const *names, const Tensor *const *values,
                     const bool *trainable, size_t count, const char *file) {
  return guarded([&] {
    torch::jit::Module module("Block");
    module.register_attribute("training", c10::BoolType::get(), true);
    for (size_t i = 0; i < count; ++i) {
      Tensor value = values[i]->detach();
      if (trainable[i]) value.set_requires_grad(true);
      module.register_parameter(names[i], value, /*is_buffer=*/!trainable[i]);
    }
    module.define(source);
    module.save(file);
  });
}

}  // extern "C"

// A method of a TorchScript module, with all that its call needs besides the inputs.
struct Script {
  torch::jit::Module module;
  torch::jit::Module owner;
  std::string method;
  std::vector<std::pair<std::string, c10::IValue>> constants;
  // By input: -1 for one that is an argument, else a place in `states`.
  std::vector<int> inputs;
  struct Attribute {
    std::string path;
    c10::IValue value;
    bool rows;  // the value is the number of rows
    int64_t batch_dim;
  };
  std::vector<Attribute> states;
  std::vector<Attribute> presets;
  // Runs in which tensors are still looked after, whether a pass changes them in place.
  int looks = 8;
};

namespace {

std::pair<torch::jit::Module, std::string> resolved(torch::jit::Module module, const std::string &path) {
  size_t begin = 0;
  for (size_t dot; (dot = path.find('.', begin)) != std::string::npos; begin = dot + 1) {
    std::string part = path.substr(begin, dot - begin);
    TORCH_CHECK(module.hasattr(part) && module.attr(part).isModule(), "module has no part `", path.substr(0, dot), "`");
    module = module.attr(part).toModule();
  }
  return {module, path.substr(begin)};
}

c10::IValue constant(int kind, int64_t whole, double number, const char *text) {
  switch (kind) {
    case 0: return c10::IValue();
    case 1: return c10::IValue(whole);
    case 2: return c10::IValue(number);
    case 3: return c10::IValue(whole != 0);
    default: return c10::IValue(std::string(text));
  }
}

// The path from the module's own `self` to the owner of an attribute; empty where it cannot be told.
std::string owner_of(torch::jit::Value *value) {
  torch::jit::Node *node = value->node();
  if (node->kind() != c10::prim::GetAttr) return "";
  return owner_of(node->input(0)) + node->s(c10::attr::name) + ".";
}

void assigned(torch::jit::Block *block, std::vector<std::string> &paths) {
  for (torch::jit::Node *node : block->nodes()) {
    if (node->kind() == c10::prim::SetAttr) {
      std::string path = owner_of(node->input(0)) + node->s(c10::attr::name);
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
    for (torch::jit::Block *inner : node->blocks()) assigned(inner, paths);
  }
}

// The sum of the versions of all tensors: in-place changes count them up.
std::vector<std::pair<std::string, uint32_t>> versions(const torch::jit::Module &module) {
  std::vector<std::pair<std::string, uint32_t>> all;
  for (const auto &it : module.named_attributes(/*recurse=*/true))
    if (it.value.isTensor() && it.value.toTensor().defined())
      all.emplace_back(it.name, it.value.toTensor()._version());
  return all;
}

using Each = void (*)(void *context, const char *name, Tensor *tensor);

void flatten(const c10::IValue &value, const std::string &name, void *context, Each each) {
  auto inner = [&](const std::string &part) { return name.empty() ? part : name + "." + part; };
  if (value.isTensor()) {
    each(context, name.c_str(), given(value.toTensor()));
  } else if (value.isNone()) {
    return;
  } else if (value.isTuple()) {
    const auto &elements = value.toTupleRef().elements();
    auto type = value.type()->cast<c10::TupleType>();
    const auto &schema = type ? type->schema() : nullptr;
    for (size_t i = 0; i < elements.size(); ++i) {
      bool named = schema && i < schema->arguments().size();
      flatten(elements[i], inner(named ? schema->arguments()[i].name() : std::to_string(i)), context, each);
    }
  } else if (value.isTensorList() || value.isList()) {
    auto list = value.toListRef();
    for (size_t i = 0; i < list.size(); ++i) flatten(list[i], inner(std::to_string(i)), context, each);
  } else if (value.isGenericDict()) {
    for (const auto &entry : value.toGenericDict()) {
      TORCH_CHECK(entry.key().isString(), "method gave a dict with keys of ", entry.key().tagKind(),
                  ", expected str");
      flatten(entry.value(), inner(entry.key().toStringRef()), context, each);
    }
  } else {
    std::string at = name.empty() ? "" : " as `" + name + "`";
    TORCH_CHECK(false, "method gave ", value.tagKind(), at, ", expected Tensor, or tuples, lists and dicts of them");
  }
}

}  // namespace

extern "C" {

// Reads a TorchScript file onto the processor (`index` below 0) or a CUDA device.
int skep_script_load(const char *file, int index, Script **out) {
  return guarded([&] {
    c10::Device device = index < 0 ? c10::Device(c10::kCPU) : cuda(index);
    auto script = std::make_unique<Script>();
    script->module = torch::jit::load(file, device);
    script->module.eval();
    *out = script.release();
  });
}

// Chooses the method to call, with the names of the parts that it is in before it.
int skep_script_method(Script *script, const char *path) {
  return guarded([&] {
    auto [owner, name] = resolved(script->module, path);
    auto found = owner.find_method(name);
    if (!found) {
      std::string known;
      for (const auto &method : owner.get_methods()) known += (known.empty() ? "`" : ", `") + method.name() + "`";
      TORCH_CHECK(false, "module has no method `", path, "`, expected one of ", known);
    }
    script->owner = owner;
    script->method = name;
  });
}

// Gives an argument of the method a value for good. `kind`: 0 none, 1 whole, 2 number, 3 bool, 4 text.
int skep_script_argument(Script *script, const char *name, int kind, int64_t whole, double number, const char *text) {
  return guarded([&] {
    const auto &arguments = script->owner.get_method(script->method).function().getSchema().arguments();
    bool known = std::any_of(arguments.begin(), arguments.end(), [&](const auto &a) { return a.name() == name; });
    std::string all;
    for (size_t i = 1; i < arguments.size(); ++i) all += (i > 1 ? ", `" : "`") + arguments[i].name() + "`";
    TORCH_CHECK(known, "method has no argument `", name, "`, expected one of ", all);
    script->constants.emplace_back(name, constant(kind, whole, number, text));
  });
}

// Has an attribute set before each call: to a value (`kind` as above), or to the number of rows (`kind` 5).
int skep_script_attribute(Script *script, const char *path, int kind, int64_t whole, double number, const char *text) {
  return guarded([&] {
    auto [owner, name] = resolved(script->module, path);
    TORCH_CHECK(owner.hasattr(name), "module has no attribute `", path, "`");
    script->presets.push_back({path, kind == 5 ? c10::IValue() : constant(kind, whole, number, text), kind == 5, 0});
  });
}

// The next input is an argument (`path` null), or is set as an attribute, whose rows are dim `batch_dim`, and read from
// there after the call.
int skep_script_input(Script *script, const char *path, int64_t batch_dim) {
  return guarded([&] {
    if (!path) {
      script->inputs.push_back(-1);
      return;
    }
    auto [owner, name] = resolved(script->module, path);
    TORCH_CHECK(owner.hasattr(name), "module has no attribute `", path, "`");
    TORCH_CHECK(owner.attr(name).isTensor(), "attribute `", path, "` is ", owner.attr(name).tagKind(), ", expected Tensor");
    script->inputs.push_back(static_cast<int>(script->states.size()));
    script->states.push_back({path, c10::IValue(), false, batch_dim});
  });
}

// Checks that the method's arguments are all given, and that it keeps no state but what is set before each call.
int skep_script_check(Script *script) {
  return guarded([&] {
    auto method = script->owner.get_method(script->method);
    const auto &arguments = method.function().getSchema().arguments();
    size_t tensors = std::count(script->inputs.begin(), script->inputs.end(), -1);
    size_t taken = 0;
    for (size_t i = 1; i < arguments.size(); ++i) {
      const auto &argument = arguments[i];
      bool is_constant = std::any_of(script->constants.begin(), script->constants.end(),
                                     [&](const auto &c) { return c.first == argument.name(); });
      if (is_constant) continue;
      bool takes_tensor = argument.type()->isSubtypeOf(*c10::OptionalType::create(c10::TensorType::get()));
      if (taken < tensors && takes_tensor) {
        ++taken;
      } else {
        TORCH_CHECK(argument.default_value(), "argument `", argument.name(), "` of the method is ",
                    argument.type()->repr_str(), " and has no default, expected a value for it (`with_argument`)",
                    takes_tensor ? " or an input" : "");
      }
    }
    TORCH_CHECK(taken == tensors, "method takes ", taken, " tensors, and there are ", tensors, " inputs");

    std::shared_ptr<torch::jit::Graph> graph = method.graph()->copy();
    torch::jit::Inline(*graph);
    std::vector<std::string> paths;
    assigned(graph->block(), paths);
    std::string open;
    for (const std::string &path : paths) {
      auto is_set = [&](const Script::Attribute &a) {
        return a.path == path || (a.path.size() > path.size() && a.path.compare(a.path.size() - path.size() - 1, std::string::npos, "." + path) == 0);
      };
      bool known = std::any_of(script->states.begin(), script->states.end(), is_set) ||
                   std::any_of(script->presets.begin(), script->presets.end(), is_set);
      if (!known) open += (open.empty() ? "`" : ", `") + path + "`";
    }
    TORCH_CHECK(open.empty(), "module keeps state in ", open,
                ", which would pass from one caller to the next: pass it in and out as rows (`with_state`), or have it set "
                "before each call (`with_attribute`)");
  });
}

void skep_script_free(Script *script) { delete script; }

// How dropout, batch norm and the like behave.
int skep_script_train(Script *script, bool on) {
  return guarded([&] { script->module.train(on); });
}

// Calls `each` with every parameter or buffer: its name, whether it is a parameter, and a tensor that `each` owns.
int skep_script_tensors(const Script *script, void *context,
                        void (*each)(void *context, const char *name, bool parameter, Tensor *tensor)) {
  return guarded([&] {
    for (const auto &it : script->module.named_parameters()) each(context, it.name.c_str(), true, given(it.value));
    for (const auto &it : script->module.named_buffers()) each(context, it.name.c_str(), false, given(it.value));
  });
}

// Calls the method. Its result is a tensor, or tuples, lists and dicts of tensors; `each` gets them in order, each with
// where it was in the result, and owns them. The states follow. None is left out.
int skep_script_forward(Script *script, const Tensor *const *inputs, size_t count, bool training, void *context,
                        Each each) {
  return guarded([&] {
    TORCH_CHECK(count == script->inputs.size(), "module got ", count, " tensors, expected ", script->inputs.size());
    int64_t rows = count > 0 && inputs[0]->dim() > 0 ? inputs[0]->size(0) : 0;
    std::vector<Tensor> tensors;
    for (size_t i = 0; i < count; ++i) {
      if (script->inputs[i] < 0) {
        tensors.push_back(*inputs[i]);
        continue;
      }
      const auto &state = script->states[script->inputs[i]];
      auto [owner, name] = resolved(script->module, state.path);
      owner.setattr(name, inputs[i]->movedim(0, state.batch_dim).contiguous());
    }
    for (const auto &preset : script->presets) {
      auto [owner, name] = resolved(script->module, preset.path);
      owner.setattr(name, preset.rows ? c10::IValue(rows) : preset.value);
    }
    auto method = script->owner.get_method(script->method);
    const auto &arguments = method.function().getSchema().arguments();
    std::vector<c10::IValue> values;
    size_t next = 0;
    for (size_t i = 1; i < arguments.size(); ++i) {
      auto given_value = std::find_if(script->constants.begin(), script->constants.end(),
                                      [&](const auto &c) { return c.first == arguments[i].name(); });
      bool takes_tensor = arguments[i].type()->isSubtypeOf(*c10::OptionalType::create(c10::TensorType::get()));
      if (given_value != script->constants.end()) {
        values.push_back(given_value->second);
      } else if (next < tensors.size() && takes_tensor) {
        values.emplace_back(tensors[next++]);
      } else {
        values.push_back(*arguments[i].default_value());
      }
    }
    bool look = !training && script->looks > 0;
    auto before = look ? versions(script->module) : decltype(versions(script->module))();
    c10::IValue result = method(std::move(values));
    if (look) {
      --script->looks;
      auto after = versions(script->module);
      for (size_t i = 0; i < std::min(before.size(), after.size()); ++i) {
        bool set = std::any_of(script->states.begin(), script->states.end(),
                               [&](const auto &state) { return state.path == before[i].first; });
        TORCH_CHECK(set || before[i].second == after[i].second, "module changes `", before[i].first,
                    "` in place, which would pass from one caller to the next: pass it in and out as rows "
                    "(`with_state`)");
      }
    }
    flatten(result, "", context, each);
    for (const auto &state : script->states) {
      auto [owner, name] = resolved(script->module, state.path);
      each(context, state.path.c_str(), given(owner.attr(name).toTensor().movedim(state.batch_dim, 0).contiguous()));
    }
  });
}

}  // extern "C"
