// TorchScript modules: made of source text, and called with state that is passed in and out.

#include "common.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/script.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace skep;

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
  c10::Device device = c10::kCPU;
  // It draws random numbers in a training step.
  bool draws = false;
  // It changes inputs in place, which are its callers'.
  bool changes_inputs = false;
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

// Whether an operation draws from the device's generator; one that cannot be seen into may.
bool draws(torch::jit::Block *block) {
  for (torch::jit::Node *node : block->nodes()) {
    if (node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction || node->kind() == c10::prim::fork)
      return true;
    if (const auto *schema = node->maybeSchema()) {
      auto op = c10::Dispatcher::singleton().findSchema({schema->name(), schema->overload_name()});
      if (op && op->hasTag(at::Tag::nondeterministic_seeded)) return true;
    }
    for (torch::jit::Block *inner : node->blocks())
      if (draws(inner)) return true;
  }
  return false;
}

// Has a graph be that of an inference: what is for training only goes.
void assume_inference(torch::jit::Block *block) {
  for (torch::jit::Node *node : block->nodes()) {
    if (node->kind() == c10::prim::GetAttr && node->s(c10::attr::name) == "training" &&
        node->output()->type()->isSubtypeOf(*c10::BoolType::get())) {
      torch::jit::WithInsertPoint guard(node);
      node->output()->replaceAllUsesWith(node->owningGraph()->insertConstant(false));
    }
    for (torch::jit::Block *inner : node->blocks()) assume_inference(inner);
  }
}

// Attributes that an operation changes in place: tensors, or all else that can be changed.
void changed(torch::jit::Block *block, const torch::jit::AliasDb &aliases, bool tensors, std::vector<std::string> &paths) {
  for (torch::jit::Node *node : block->nodes()) {
    if (node->kind() == c10::prim::GetAttr && aliases.hasWriters(node->output())) {
      const auto &type = node->output()->type();
      bool is_tensor = type->isSubtypeOf(*c10::OptionalType::create(c10::TensorType::get()));
      bool is_module = type->cast<c10::ClassType>() && type->is_module();
      std::string path = owner_of(node->input(0)) + node->s(c10::attr::name);
      if (is_tensor == tensors && !is_module && std::find(paths.begin(), paths.end(), path) == paths.end())
        paths.push_back(path);
    }
    for (torch::jit::Block *inner : node->blocks()) changed(inner, aliases, tensors, paths);
  }
}

// While it lives, the generator that dropout and the like draw from gives the numbers of this seed; then it is as it was.
// One at a time in a process: it is everybody's generator.
class Seeded {
 public:
  Seeded(c10::Device device, uint64_t seed)
      : turn_(turn()),
        generator_(device.is_cpu() ? at::detail::getDefaultCPUGenerator() : at::globalContext().defaultGenerator(device)) {
    std::lock_guard<std::mutex> lock(generator_.mutex());
    before_ = generator_.get_state();
    generator_.set_current_seed(seed);
  }
  ~Seeded() {
    try {
      std::lock_guard<std::mutex> lock(generator_.mutex());
      generator_.set_state(before_);
    } catch (...) {
    }
  }
  Seeded(const Seeded &) = delete;
  Seeded &operator=(const Seeded &) = delete;

 private:
  static std::mutex &turn() {
    static std::mutex mutex;
    return mutex;
  }
  std::lock_guard<std::mutex> turn_;
  at::Generator generator_;
  Tensor before_;
};

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

// Reads a TorchScript file onto the processor (`index` below 0) or a CUDA device.
int skep_script_load(const char *file, int index, Script **out) {
  return guarded([&] {
    auto script = std::make_unique<Script>();
    script->device = device(index);
    script->module = torch::jit::load(file, script->device);
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
    auto is_open = [&](const std::string &path) {
      auto is_set = [&](const Script::Attribute &a) {
        return a.path == path || (a.path.size() > path.size() && a.path.compare(a.path.size() - path.size() - 1, std::string::npos, "." + path) == 0);
      };
      return !std::any_of(script->states.begin(), script->states.end(), is_set) &&
             !std::any_of(script->presets.begin(), script->presets.end(), is_set);
    };
    auto told = [&](const std::vector<std::string> &all) {
      std::string text;
      for (const std::string &path : all)
        if (is_open(path)) text += (text.empty() ? "`" : ", `") + path + "`";
      return text;
    };
    std::string open = told(paths);
    TORCH_CHECK(open.empty(), "module keeps state in ", open,
                ", which would pass from one caller to the next: pass it in and out as rows (`with_state`), or have it set "
                "before each call (`with_attribute`)");

    script->draws = draws(graph->block());
    std::vector<std::string> in_place;
    {
      torch::jit::AliasDb aliases(graph, /*isFrozen=*/true);
      for (size_t i = 1; i < graph->inputs().size(); ++i)
        script->changes_inputs = script->changes_inputs || aliases.hasWriters(graph->inputs()[i]);
      // A training step may change tensors, which are buffers; lists and dicts nobody saves.
      changed(graph->block(), aliases, /*tensors=*/false, in_place);
    }
    assume_inference(graph->block());
    torch::jit::ConstantPropagation(graph);
    changed(graph->block(), torch::jit::AliasDb(graph, /*isFrozen=*/true), /*tensors=*/true, in_place);
    open = told(in_place);
    TORCH_CHECK(open.empty(), "module changes ", open,
                " in place, which would pass from one caller to the next: pass it in and out as rows (`with_state`)");
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
// where it was in the result, and owns them. The states follow. None is left out. In a training step, what is drawn
// follows from `seed`.
int skep_script_forward(Script *script, const Tensor *const *inputs, size_t count, bool training, uint64_t seed,
                        void *context, Each each) {
  return guarded([&] {
    TORCH_CHECK(count == script->inputs.size(), "module got ", count, " tensors, expected ", script->inputs.size());
    int64_t rows = count > 0 && inputs[0]->dim() > 0 ? inputs[0]->size(0) : 0;
    std::vector<Tensor> tensors;
    for (size_t i = 0; i < count; ++i) {
      if (script->inputs[i] < 0) {
        tensors.push_back(script->changes_inputs ? inputs[i]->clone() : *inputs[i]);
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
    std::optional<Seeded> seeded;
    if (training && script->draws) seeded.emplace(script->device, seed);
    c10::IValue result = method(std::move(values));
    seeded.reset();
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
