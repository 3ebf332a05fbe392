//! Compiles the shim where libtorch is, and tells where that is: to our own tests, which need it to start, and
//! to the build scripts of applications (`DEP_SKEP_TCH_LIBTORCH_LIB`).

use std::env;
use std::path::PathBuf;

const FILES: [&str; 3] = ["shim/skep_shim.cpp", "shim/skep_script.cpp", "shim/skep_package.cpp"];

fn main() {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    // torch-sys says nothing where it was compiled for checks and documentation only.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    println!("cargo::metadata=libtorch_lib={}", lib.display());

    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from).or_else(|| Some(lib.parent()?.to_owned()));
    let include = root.unwrap_or_default().join("include");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut shim = cc::Build::new();
    shim.cpp(true).std("c++17").warnings(false).files(FILES);
    shim.include(&include).include(include.join("torch/csrc/api/include"));
    shim.define("_GLIBCXX_USE_CXX11_ABI", &*abi).compile("skep_shim");

    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
