//! `ambit audit`: proving what was recorded.

mod kept;

use super::{print, show};
use crate::{
    args::{Audit, Format, Target},
    client::{Client, segment},
    installation::Installation,
};
use ambit_audit::{Fault, Report, Verifier, verify_export};
use anyhow::{Context as _, bail};
use kept::Kept;
use serde_json::json;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) async fn run(command: Audit) -> anyhow::Result<ExitCode> {
    match command {
        Audit::Verify {
            tenant,
            session,
            export,
            anchors,
            earlier,
            key,
            target,
        } => {
            let earlier = earlier.map(|path| {
                let line = File::open(&path).and_then(|file| first_line(&file));
                line.with_context(|| format!("cannot read {}", path.display()))
            });
            let earlier = earlier.transpose()?;
            let key = key.map(|key| key.trim().parse::<Verifier>());
            let key = key.transpose().map_err(wrong_key)?;
            // What a running server answers must lead up to what is there now, or later.
            let own = || own_anchors(&target).filter(|_| export.is_none());
            let there = anchors.clone().or_else(own).filter(|_| export.is_none());
            let there = match there {
                Some(place) => Some(Kept::read(&place).await?),
                None => None,
            };
            let (mut reports, key) = match (&export, key) {
                (Some(file), Some(key)) => {
                    let file = File::open(file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                    (vec![verified(file, key.clone(), earlier).await?], key)
                }
                (_, key) => online(&target, tenant, session.clone(), key, earlier).await?,
            };
            let asked = reports.iter().all(|(_, report, _)| {
                let whole = report.complete || session.is_some();
                whole && (session.is_none() || report.sessions == 1)
            });
            if !asked && export.is_none() {
                bail!("the server did not export what it was asked for");
            }
            // Now: what was asked for just then may be the first that was ever put there.
            let newest = there.as_ref().map_or(0, Kept::count);
            let kept = match (there, anchors.or_else(own)) {
                (Some(mut there), _) => {
                    there.read_on().await?;
                    Some(there)
                }
                (None, Some(place)) => Some(Kept::read(&place).await?),
                (None, None) => None,
            };
            let mut ends_at = None;
            if let Some(kept) = kept {
                let check = move || Ok((kept.check(&key, &reports, newest)?, reports));
                let check: anyhow::Result<_> = tokio::task::spawn_blocking(check).await?;
                let (last, checked) = check?;
                (ends_at, reports) = (Some(last), checked);
            }
            told(&target, ends_at, &reports);
            for (tenant, report, _) in &reports {
                // What a server answers was held against it above.
                if export.is_some() && ends_at.is_some_and(|last| report.anchor < last) {
                    let last = ends_at.unwrap_or_default();
                    let _ = writeln!(
                        std::io::stderr(),
                        "note: {tenant} leads up to anchor {}, and {last} is the newest: what came after is not in this export",
                        report.anchor
                    );
                }
            }
        }
        Audit::Export {
            tenant,
            session,
            output,
            target,
        } => {
            let client = Client::open(&target).await?;
            let path = export_path(&tenant, session.as_deref());
            match output {
                Some(file) => {
                    let folder = file
                        .parent()
                        .filter(|folder| !folder.as_os_str().is_empty());
                    let mut part =
                        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
                            .with_context(|| format!("cannot write beside {}", file.display()))?;
                    client
                        .download(&path, &mut BufWriter::new(&mut part))
                        .await?;
                    // Under its name only when it is whole.
                    part.persist(&file)
                        .with_context(|| format!("cannot write {}", file.display()))?;
                }
                None => {
                    client
                        .download(&path, &mut std::io::stdout().lock())
                        .await?
                }
            }
        }
        Audit::Key { target } => {
            let server = Client::open(&target).await?.get("/server").await?;
            show(target.format, &server["anchor_key"], |key| {
                key.as_str().unwrap_or_default().to_owned()
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What was verified, whose it is, and the note it leads up to.
type Verified = (String, Report, String);

/// Each tenant's export, as it is now.
async fn online(
    target: &Target,
    tenant: Option<String>,
    session: Option<String>,
    key: Option<Verifier>,
    earlier: Option<String>,
) -> anyhow::Result<(Vec<Verified>, Verifier)> {
    let client = Client::open(target).await?;
    let key = match key {
        Some(key) => key,
        None => {
            let server = client.get("/server").await?;
            let key = server["anchor_key"].as_str().unwrap_or_default();
            key.parse().map_err(wrong_key)?
        }
    };
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => {
            let tenants = client.list("/tenants").await?;
            let slug = |tenant: &serde_json::Value| tenant["slug"].as_str().map(str::to_owned);
            tenants.iter().filter_map(slug).collect()
        }
    };
    let several = tenants.len() > 1;
    let mut reports = Vec::new();
    for tenant in tenants {
        let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
        let path = export_path(&tenant, session.as_deref());
        let exported = client.download(&path, &mut BufWriter::new(&mut file)).await;
        match exported {
            Err(error) if several && error.to_string().contains("no sessions yet") => continue,
            exported => exported.with_context(|| format!("tenant {tenant}"))?,
        }
        file.rewind()?;
        let (_, report, note) = verified(file, key.clone(), earlier.clone())
            .await
            .with_context(|| format!("tenant {tenant} does not verify"))?;
        reports.push((tenant, report, note));
    }
    Ok((reports, key))
}

fn export_path(tenant: &str, session: Option<&str>) -> String {
    let path = format!("/tenants/{}/export", segment(tenant));
    session.map_or(path.clone(), |session| {
        format!("{path}?session={}", segment(session))
    })
}

async fn verified(
    mut file: File,
    key: Verifier,
    earlier: Option<String>,
) -> anyhow::Result<Verified> {
    let checked = tokio::task::spawn_blocking(move || {
        let report = verify_export(BufReader::new(&file), &key, earlier.as_deref())?;
        file.rewind().map_err(anyhow::Error::new)?;
        let head: ambit_audit::Exported = serde_json::from_str(&first_line(&file)?)?;
        Ok::<_, anyhow::Error>((head.tenant, report, head.anchor))
    });
    checked.await?
}

fn first_line(file: &File) -> std::io::Result<String> {
    let mut line = String::new();
    // A head has some hundred bytes for each day; a file that is none ends here.
    BufReader::new(file).take(64 << 20).read_line(&mut line)?;
    Ok(line.trim_end_matches('\n').to_owned())
}

fn wrong_key(fault: Fault) -> anyhow::Error {
    anyhow::Error::new(fault).context("the anchors' public key cannot be used")
}

/// Where an installation on this machine keeps its anchors by itself.
fn own_anchors(target: &Target) -> Option<PathBuf> {
    if target.url.is_some() {
        return None;
    }
    let folder = Installation::find(&target.data)
        .ok()?
        .folder()
        .join("anchors");
    folder.is_dir().then_some(folder)
}

/// `newest`: the number of the last anchor that is kept, where those were read.
fn told(target: &Target, newest: Option<u64>, reports: &[Verified]) {
    let anchors_checked = newest.is_some();
    let rows: Vec<_> = reports
        .iter()
        .map(|(tenant, report, _)| {
            json!({"tenant": tenant, "sessions": report.sessions, "events": report.events, "anchor": report.anchor,
                "anchor_time_ms": report.anchor_time_ms, "removed_days": report.removed, "complete": report.complete,
                "newest_anchor": newest, "anchors_checked": anchors_checked, "verified": true})
        })
        .collect();
    let columns = [
        "tenant",
        "verified",
        "sessions",
        "events",
        "anchor",
        "newest_anchor",
        "removed_days",
        "complete",
        "anchors_checked",
    ];
    print(target.format, &rows, &columns);
    if target.format == Format::Text && !anchors_checked {
        let _ = writeln!(
            std::io::stderr(),
            "note: no --anchors: that this is the newest state is the server's word"
        );
    }
}
