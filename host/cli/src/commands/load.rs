//! Loading documents: reading a folder or rows, and sending them in batches.

use crate::client::{Client, segment};
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fs, io,
    io::BufRead as _,
    path::{Path, PathBuf},
};

/// Bytes of one batch: well under the server's cap, so that even escaping does not reach it.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS: usize = 500;

/// So many are loaded before anybody would look for a bar.
const FEW: usize = 20;

/// One document as a JSON line.
pub(crate) struct Row(String);

impl Row {
    pub(crate) fn markdown(id: &str, text: &str) -> Self {
        Self(json!({ "_id": id, "title": title(text).unwrap_or(id), "text": text, "media_type": "markdown" }).to_string())
    }
}

/// What a load did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) written: u64,
    pub(crate) unchanged: u64,
    pub(crate) chunks: u64,
    /// Documents that were kept out: by the guardrail, with its category, or because no index takes them, with the reason.
    pub(crate) rejected: Vec<Value>,
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} documents written in {} chunks, {} unchanged",
            self.written, self.chunks, self.unchanged
        );
        for rejected in &self.rejected {
            text.push_str(&format!(
                "\nrejected: {}: {}",
                rejected["id"].as_str().unwrap_or("-"),
                rejected["reason"]
                    .as_str()
                    .or(rejected["category"].as_str())
                    .unwrap_or("-")
            ));
        }
        text
    }
}

/// Reads a `.jsonl` file, a document, or a folder of documents.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    if path.is_dir() {
        let mut files = Vec::new();
        walk(path, &mut files).with_context(|| format!("cannot read {}", path.display()))?;
        files.sort();
        if files.is_empty() {
            bail!("{} holds no .md, .txt or .html files", path.display());
        }
        return files.iter().map(|file| document(path, file)).collect();
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "jsonl" || extension == "ndjson")
    {
        let file =
            fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut rows = Vec::new();
        for (number, line) in io::BufReader::new(file).lines().enumerate() {
            let line = line.with_context(|| {
                format!("{} line {} is not UTF-8 text", path.display(), number + 1)
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let row: Value = serde_json::from_str(&line)
                .with_context(|| format!("{} line {} is not JSON", path.display(), number + 1))?;
            if !row["text"].is_string() || (row["_id"].is_null() && row["id"].is_null()) {
                bail!(
                    "{} line {}: expected an object with `_id` and `text`",
                    path.display(),
                    number + 1
                );
            }
            rows.push(Row(line));
        }
        return Ok(rows);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(vec![document(folder, path)?])
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Links are not followed: a folder that holds itself would never end.
        let kind = entry.file_type()?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden {
            walk(&entry.path(), files)?;
        } else if kind.is_file() && !hidden && media_type(&entry.path()).is_some() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn media_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "md" | "markdown" => Some("markdown"),
        "txt" | "text" => Some("plain"),
        "html" | "htm" => Some("html"),
        _ => None,
    }
}

fn document(folder: &Path, file: &Path) -> anyhow::Result<Row> {
    let media_type = media_type(file).with_context(|| {
        format!(
            "{} is not a .md, .txt, .html or .jsonl file",
            file.display()
        )
    })?;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let id = file
        .strip_prefix(folder)
        .unwrap_or(file)
        .to_string_lossy()
        .replace('\\', "/");
    let title = if media_type == "markdown" {
        title(&text).unwrap_or(&id)
    } else {
        &id
    };
    Ok(Row(
        json!({ "_id": id, "title": title, "text": text, "media_type": media_type }).to_string(),
    ))
}

/// The first heading of the first level.
fn title(markdown: &str) -> Option<&str> {
    markdown
        .lines()
        .find_map(|line| line.strip_prefix("# "))
        .map(str::trim)
}

/// Sends rows in batches. Each is durable when answered, so a load that breaks off goes on where it was.
pub(crate) async fn send(
    client: &Client,
    tenant: &str,
    collection: &str,
    rows: Vec<Row>,
    show_progress: bool,
) -> anyhow::Result<Report> {
    let path = format!(
        "/tenants/{}/collections/{}/documents",
        segment(tenant),
        segment(collection)
    );
    let progress = if show_progress && rows.len() > FEW {
        ProgressBar::new(rows.len() as u64)
    } else {
        ProgressBar::hidden()
    };
    progress.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} documents, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut report = Report::default();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let (mut body, mut count) = (String::new(), 0);
        while let Some(Row(row)) = rows.next_if(|Row(row)| {
            count == 0 || (count < BATCH_ROWS && body.len() + row.len() < BATCH_BYTES)
        }) {
            body.push_str(&row);
            body.push('\n');
            count += 1;
        }
        let answer = client.post(&path, body.into_bytes()).await?;
        report.written += answer["written"].as_u64().unwrap_or(0);
        report.unchanged += answer["unchanged"].as_u64().unwrap_or(0);
        report.chunks += answer["chunks"].as_u64().unwrap_or(0);
        report
            .rejected
            .extend(answer["rejected"].as_array().cloned().unwrap_or_default());
        progress.inc(count as u64);
    }
    progress.finish_and_clear();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_folders_and_rows() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("b/one.md", "intro\n# One\ntext");
        write("a.txt", "plain");
        write(".hidden.md", "x");
        write("image.png", "x");
        let rows: Vec<Value> = read(folder.path())
            .unwrap()
            .iter()
            .map(|row| serde_json::from_str(&row.0).unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0]["_id"].as_str(), rows[0]["media_type"].as_str()),
            (Some("a.txt"), Some("plain"))
        );
        assert_eq!(
            (rows[1]["_id"].as_str(), rows[1]["title"].as_str()),
            (Some("b/one.md"), Some("One"))
        );

        write(
            "rows.jsonl",
            "{\"_id\":1,\"text\":\"x\"}\n\n{\"_id\":2,\"text\":\"y\"}\n",
        );
        assert_eq!(read(&folder.path().join("rows.jsonl")).unwrap().len(), 2);
        write(
            "bad.jsonl",
            "{\"_id\":1,\"text\":\"x\"}\n{\"text\":\"y\"}\n",
        );
        assert!(
            read(&folder.path().join("bad.jsonl"))
                .err()
                .unwrap()
                .to_string()
                .contains("line 2")
        );
        assert!(
            read(&folder.path().join("image.png"))
                .err()
                .unwrap()
                .to_string()
                .contains(".jsonl")
        );
    }
}
