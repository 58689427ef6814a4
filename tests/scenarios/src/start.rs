//! The ways the binary is started.

use crate::{Ambit, Tenant, Up, shipped};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Compiling every component takes its time on a machine that runs other tests.
const START: Duration = Duration::from_secs(180);

const LOOPBACK: &str = "127.0.0.1:0";

impl Ambit {
    /// `ambit up` on a new folder, with a model server or without one.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn up(binary: &Path, provider: Option<&str>) -> Result<Self> {
        let own = tempfile::tempdir()?;
        let data = own.path().join("data");
        let mut ambit = Self::up_on(binary, &data, provider).await?;
        ambit.own = Some(own);
        Ok(ambit)
    }

    /// `ambit up` on this folder.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn up_on(binary: &Path, data: &Path, provider: Option<&str>) -> Result<Self> {
        let provider: Vec<_> = provider
            .into_iter()
            .flat_map(|url| ["--provider-url", url])
            .collect();
        Self::up_with(binary, data, LOOPBACK, &provider).await
    }

    /// `ambit up` on this folder, listening there, with further options.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn up_with(
        binary: &Path,
        data: &Path,
        listen: &str,
        options: &[&str],
    ) -> Result<Self> {
        let mut command = command_up(binary, data, listen);
        if !options.contains(&"--components") {
            command.arg("--components").arg(shipped(binary));
        }
        command.args(["--format", "json"]).args(options);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start ambit")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let first = timeout(START, lines.next_line())
            .await
            .context("not ready in time")??
            .context("it ended before it was ready")?;
        let up = serde_json::from_str(&first)
            .with_context(|| format!("not the line that was promised: {first}"))?;
        Self::new(up, child, data)
    }

    /// `ambit up` on this folder as people start it, and the lines it prints for them.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn up_in_words(binary: &Path, data: &Path) -> Result<(Self, Vec<String>)> {
        let mut command = command_up(binary, data, LOOPBACK);
        command.arg("--components").arg(shipped(binary));
        let (mut child, server) = serving(command.stdout(Stdio::piped()), data).await?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut said = Vec::new();
        let all = async {
            while !said
                .last()
                .is_some_and(|line: &String| line.starts_with("Stop with"))
            {
                said.push(lines.next_line().await?.context("it ended")?);
            }
            Ok::<_, anyhow::Error>(())
        };
        timeout(START, all).await.context("it said too little")??;
        Ok((Self::new(found(server, data)?, child, data)?, said))
    }

    /// What `ambit up` says where it cannot come up.
    ///
    /// # Errors
    /// It cannot be started at all, or goes on.
    pub async fn up_refused(binary: &Path, data: &Path) -> Result<Output> {
        let run = command_up(binary, data, LOOPBACK)
            .arg("--components")
            .arg(shipped(binary))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        Ok(timeout(START, run).await.context("it went on")??)
    }

    /// `ambit serve` with this configuration, on a folder where `ambit up` made tenants before.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn serve(binary: &Path, config: &Path, data: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(config);
        command.arg("--components").arg(shipped(binary));
        let (child, server) = serving(&mut command, data).await?;
        Self::new(found(server, data)?, child, data)
    }

    /// `ambit serve` on a new folder with the rest of a configuration and no tenants; its log, at `debug`, lies in the folder too.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn serve_new(
        binary: &Path,
        configuration: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let own = tempfile::tempdir()?;
        let data = own.path().join("data");
        let mut ambit = Self::serve_in(binary, &data, configuration, environment).await?;
        ambit.own = Some(own);
        Ok(ambit)
    }

    /// As [`Ambit::serve_new`], on a folder that may be there already.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn serve_in(
        binary: &Path,
        data: &Path,
        configuration: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let config = data.join("ambit.toml");
        let components = format!("components = {:?}\n", shipped(binary));
        let head =
            "log = \"debug\"\nlisten.data = \"127.0.0.1:0\"\nadmin.key = { env = \"ADMIN_KEY\" }\n";
        std::fs::write(
            &config,
            format!("data = {data:?}\n{head}{components}{configuration}"),
        )?;
        let log = std::fs::File::create(data.join("log"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config);
        command
            .env("ADMIN_KEY", "adm_of-a-scenario")
            .envs(environment.iter().copied())
            .stdout(log.try_clone()?)
            .stderr(log);
        let (child, server) = serving(&mut command, data).await?;
        let up = Up {
            url: server.url,
            ops_url: server.ops_url,
            admin_key: "adm_of-a-scenario".to_owned(),
            tenants: Vec::new(),
        };
        Self::new(up, child, data)
    }

    /// Runs a command of the binary on this folder, whether a server runs there or not.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub async fn command<I>(binary: &Path, data: &Path, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = Command::new(binary);
        command.args(arguments).arg("--data").arg(data);
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(timeout(START, command.output())
            .await
            .context("it does not end")??)
    }
}

/// What `DIR/server.json` says of a server that runs.
#[derive(Deserialize)]
struct Server {
    url: String,
    ops_url: String,
    admin_key: String,
    pid: u32,
}

/// Starts `ambit serve` and waits until it does.
async fn serving(command: &mut Command, data: &Path) -> Result<(Child, Server)> {
    let mut child = command.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
    let ready = async {
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("it ended before it was ready: {status}");
            }
            let written = std::fs::read(data.join("server.json")).ok();
            let server = written.and_then(|text| serde_json::from_slice(&text).ok());
            // What a killed one left behind has another pid.
            if let Some(server) = server.filter(|server: &Server| Some(server.pid) == child.id()) {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let server = timeout(START, ready).await.context("not ready in time")??;
    Ok((child, server))
}

/// The same for tests that know the keys `ambit up` left in the folder.
fn found(server: Server, data: &Path) -> Result<Up> {
    #[derive(Deserialize)]
    struct Keys {
        tenants: BTreeMap<String, String>,
    }
    let keys: Keys = serde_json::from_slice(&std::fs::read(data.join("keys.json"))?)?;
    let tenants = keys.tenants.into_iter().map(|(slug, api_key)| Tenant {
        host: format!("{slug}.localhost"),
        slug,
        api_key,
    });
    Ok(Up {
        url: server.url,
        ops_url: server.ops_url,
        admin_key: server.admin_key,
        tenants: tenants.collect(),
    })
}

fn command_up(binary: &Path, data: &Path, listen: &str) -> Command {
    let mut command = Command::new(binary);
    command.arg("up").arg("--data").arg(data);
    command.args(["--listen", listen]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
