//! Servers as child processes, and what they cost.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Clock ticks per second in `/proc/PID/stat`; 100 on every Linux this runs on (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;
/// A server must say that it is ready within this time.
const START: Duration = Duration::from_secs(60);

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts `command`; its standard error is discarded.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("the server ended at once")?;
        let output = child.stdout.take().context("the server has no output")?;
        Ok(Self {
            child,
            pid,
            output: BufReader::new(output).lines(),
        })
    }

    /// The first line of its output that `found` makes something of.
    pub(crate) async fn wait_for<T>(
        &mut self,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        timeout(START, async {
            while let Some(line) = self.output.next_line().await? {
                if let Some(value) = found(&line) {
                    return Ok(value);
                }
            }
            let status = self.child.wait().await?;
            bail!("the server ended with {status}")
        })
        .await
        .context("the server is not ready in time")?
    }

    /// CPU seconds spent until now, in user and kernel mode, all threads.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(&self.pid.to_string())
    }

    /// Resident memory now.
    pub(crate) fn resident(&self) -> Result<Resident> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .context("the server has ended")?;
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0)
                .with_context(|| format!("no {name}"))
        };
        Ok(Resident {
            anonymous: mib("RssAnon:")?,
            file: mib("RssFile:")? + mib("RssShmem:")?,
        })
    }

    pub(crate) fn resident_mib(&self) -> Option<f64> {
        let Resident { anonymous, file } = self.resident().ok()?;
        Some(anonymous + file)
    }

    /// Ends it as an operator would.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("it has ended")?;
        kill_process(pid, Signal::TERM)?;
        timeout(START, self.child.wait()).await??;
        Ok(())
    }
}

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) anonymous: f64,
    pub(crate) file: f64,
}

/// Of the process with this number, or of `self`.
pub(crate) fn cpu_seconds(process: &str) -> Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{process}/stat")).context("the server has ended")?;
    // The second field is the program's name in brackets and may hold spaces: count from behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("unreadable stat")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
            .context("unreadable stat")
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Thousands of streams need as many files; children inherit the limit.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, the row says how many streams failed.
    let _ = setrlimit(Resource::Nofile, limit);
}
