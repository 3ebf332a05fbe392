//! `cargo xtask serve`: the server, built in release, with a sentence model and a classifier of digits.

use crate::combination::choice::{self, Choice};
use crate::combination::need::Need;
use crate::combination::table::{self, Backend, Device, Use};
use crate::command::server;
use crate::error::Error;
use crate::fetch::sentence_model;
use crate::machine::process::{replace, root, target, tell_cores};
use clap::Args;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// candle or tch
    #[arg(long, default_value = "candle", value_parser = choice::one::<Backend>)]
    backend: Backend,
    /// Every other argument is the server's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

const CURLS: &str = r#"
Once it is ready, in another terminal:

  curl -s http://127.0.0.1:8000/embed -d '{"inputs": "How did ships find their way?"}'
  curl -s http://127.0.0.1:8000/v1/embeddings -d '{"input": ["one text", "and another"]}'
  curl -s http://127.0.0.1:8000/v2/models/digits/infer -d '{"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0]}]}'
"#;

impl Serve {
    /// Gets the model, builds the server, and becomes it.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        let combination = table::select(Choice::One(self.backend), Choice::One(Device::Cpu))[0];
        if let Some(reason) = combination.obstacle(Use::Run, Need::met) {
            return Err(Error::Usage(format!("the server cannot run on {combination}: {reason}")));
        }
        combination.prepare(Use::Run)?;
        let program = server::build(self.backend)?;
        let models = target()?.join("serve").join("models");
        let digits = root().join("server").join("models").join("digits");
        server::folder(&models, &[("all-MiniLM-L6-v2", &sentence_model::folder()?), ("digits", &digits)])?;
        eprintln!("{CURLS}");
        let mut command = Command::new(program);
        command.arg("serve").arg(models).args(self.arguments);
        combination.tell(&mut command);
        replace(tell_cores(&mut command))
    }
}
