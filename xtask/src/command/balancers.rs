//! `cargo xtask test balancers`: two servers behind `HAProxy` and Envoy, restarted, killed and made slow under load.

use crate::combination::choice::Choice;
use crate::combination::table::{self, Backend, Device};
use crate::command::server;
use crate::error::Error;
use crate::fetch::debian;
use crate::fetch::environment::{self, ENVOY};
use crate::machine::process::{root, run, target};
use crate::machine::python;
use crate::report::summary::Summary;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs both, one after the other.
pub(super) fn balancers(summary: &mut Summary) {
    let mut program = None;
    summary.run("candle cpu", "server for balancers", || {
        let tested = table::select(Choice::One(Backend::Candle), Choice::One(Device::Cpu))[0];
        program = Some(server::build_as_tested(tested)?);
        Ok(())
    });
    let Some(program) = program else { return };
    let haproxy = debian::program("haproxy", "haproxy")
        .and_then(|_| python::with_pip().map(PathBuf::from).map_err(|error| error.told()));
    let envoy = target().map_err(|error| error.told()).and_then(|it| environment::environment(&ENVOY, &it));
    for (kind, python) in [("haproxy", haproxy), ("envoy", envoy)] {
        match python {
            Ok(python) => summary.run("candle cpu", kind, || ask(&python, &program, kind)),
            Err(reason) => summary.skip("candle cpu", kind, &reason),
        }
    }
}

fn ask(python: &Path, program: &Path, kind: &str) -> Result<(), Error> {
    let file = root().join("server").join("tests").join("clients").join("balancers.py");
    run(Command::new(python).arg("-B").arg(file).arg(program).arg(kind).arg(target()?.join("balancers")))
}
