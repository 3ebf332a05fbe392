// Compiled packages (`.pt2`), as torch.export and AOTInductor write them.

#include "common.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <streambuf>
#include <string>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

using namespace skep;

namespace {

// Compiled code checks its inputs only if the environment says so when it first runs; it would read past their ends
// otherwise. Set before `main`, while nobody reads the environment.
[[maybe_unused]] const bool inputs_are_checked = [] {
#if defined(_WIN32)
  _putenv_s("AOTI_RUNTIME_CHECK_INPUTS", "1");
#else
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", /*overwrite=*/1);
#endif
  return true;
}();

// Compiled code says on `std::cerr` what is wrong, and nowhere else. This passes on what others write there.
class Overheard : public std::streambuf {
 public:
  explicit Overheard(std::streambuf *others) : others_(others) {}
  static thread_local std::string *ear;

 protected:
  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof())) return traits_type::not_eof(character);
    if (!ear) return others_->sputc(traits_type::to_char_type(character));
    ear->push_back(traits_type::to_char_type(character));
    return character;
  }
  std::streamsize xsputn(const char *text, std::streamsize count) override {
    if (!ear) return others_->sputn(text, count);
    ear->append(text, static_cast<size_t>(count));
    return count;
  }
  int sync() override { return ear ? 0 : others_->pubsync(); }

 private:
  std::streambuf *others_;
};

thread_local std::string *Overheard::ear = nullptr;

// Calls compiled code, and adds to the text of its exception what it has said.
template <typename F>
void listening(F &&body) {
  static std::once_flag once;
  // Never put back: somebody may write there at the end of the process.
  std::call_once(once, [] { std::cerr.rdbuf(new Overheard(std::cerr.rdbuf())); });
  std::string said;
  struct Ear {
    explicit Ear(std::string *said) { Overheard::ear = said; }
    ~Ear() { Overheard::ear = nullptr; }
  } ear(&said);
  try {
    body();
  } catch (const std::exception &error) {
    size_t begin = said.rfind("Error: ", 0) == 0 ? 7 : 0;
    size_t end = said.find_last_not_of(" \n");
    if (end == std::string::npos) throw;
    TORCH_CHECK(false, said.substr(begin, end + 1 - begin));
  }
}

// A package's code needs `libtorch.so` by this name, and knows no folder of it. It is part of this program under another
// name, or in the folder where the program finds the rest of libtorch.
void find_libtorch() {
#if defined(__linux__)
  static std::once_flag once;
  std::call_once(once, [] { dlopen("libtorch.so", RTLD_NOW | RTLD_GLOBAL); });
#endif
}

}  // namespace

// A loaded package.
struct Package {
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
  // Runs in which inputs are still looked after, whether it writes to them.
  int looks = 64;
  bool changes_inputs = false;
};

extern "C" {

// Calls `each` with what the package tells of itself, without loading its code.
int skep_package_metadata(const char *file, void *context,
                          void (*each)(void *context, const char *key, const char *value)) {
  return guarded([&] {
    for (const auto &[key, value] :
         torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(file, "model"))
      each(context, key.c_str(), value.c_str());
  });
}

// Loads a package's code, for the processor (`index` below 0) or a CUDA device. `each` gets two texts in JSON: how inputs
// and outputs are nested.
int skep_package_load(const char *file, int index, void *context, void (*each)(void *context, const char *text),
                      Package **out) {
  return guarded([&] {
    find_libtorch();
    auto package = std::make_unique<Package>();
    listening([&] {
      package->loader = std::make_unique<torch::inductor::AOTIModelPackageLoader>(
          file, "model", /*run_single_threaded=*/false, /*num_runners=*/1,
          static_cast<c10::DeviceIndex>(index < 0 ? -1 : index));
    });
    for (const std::string &text : package->loader->get_call_spec()) each(context, text.c_str());
    *out = package.release();
  });
}

// Runs it. `each` owns the outputs. Inputs, which are their callers', stay as they are.
int skep_package_run(Package *package, const Tensor *const *inputs, size_t count, void *context,
                     void (*each)(void *context, Tensor *tensor)) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<Tensor> own;
    own.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      // Strides of dims of one element are free for libtorch, and not for compiled code.
      Tensor whole = inputs[i]->detach().contiguous();
      if (package->changes_inputs) whole = whole.clone();
      own.push_back(whole.as_strided(whole.sizes(), c10::contiguous_strides(whole.sizes())));
    }
    std::vector<Tensor> before;
    if (!package->changes_inputs && package->looks > 0)
      for (const Tensor &input : own) before.push_back(input.clone());
    std::vector<Tensor> outputs;
    listening([&] { outputs = package->loader->run(own); });
    package->looks -= package->looks > 0;
    for (size_t i = 0; i < before.size(); ++i) {
      // Compared as bytes: what is not a number is like itself.
      bool same = own[i].nbytes() == 0 || !own[i].is_cpu()
                      ? at::equal(own[i], before[i])
                      : std::memcmp(own[i].const_data_ptr(), before[i].const_data_ptr(), own[i].nbytes()) == 0;
      if (same) continue;
      package->changes_inputs = true;
      for (Tensor &output : outputs)
        if (output.is_alias_of(own[i])) output = output.clone();
      own[i].copy_(before[i]);
    }
    for (Tensor &output : outputs) each(context, given(std::move(output)));
  });
}

void skep_package_free(Package *package) { delete package; }

}  // extern "C"
