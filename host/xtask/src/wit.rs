//! docs/wit: one page per package, from the documentation in the contracts themselves.

use crate::sh;
use anyhow::{Context as _, Result, bail};
use std::fs;

/// Writes the pages, or with `check` only compares.
pub(crate) fn write(check: bool) -> Result<()> {
    let source = sh::root().join("wit");
    let mut packages: Vec<_> = fs::read_dir(&source)?
        .filter_map(|entry| entry.ok())
        // `deps` holds packages of others, which have their own manuals.
        .filter(|entry| entry.path().is_dir() && entry.file_name() != "deps")
        .map(|entry| entry.file_name())
        .collect();
    packages.sort();
    let folder = sh::root().join("docs/wit");
    fs::create_dir_all(&folder)?;
    for package in packages {
        let name = package.to_string_lossy();
        let file = source.join(&package).join(format!("{name}.wit"));
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let page = page(&text).with_context(|| format!("in {}", file.display()))?;
        let to = folder.join(format!("{name}.md"));
        let current = fs::read_to_string(&to).unwrap_or_default();
        if current == page {
            continue;
        }
        if check {
            bail!("{} is out of date; run `cargo xtask wit`", to.display());
        }
        fs::write(&to, page).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Every item with its documentation, under its interface. An item without documentation is an error: the contract is the manual.
fn page(wit: &str) -> Result<String> {
    let mut page = String::new();
    let mut documentation: Vec<&str> = Vec::new();
    let mut items = String::new();
    let mut open: Vec<&str> = Vec::new();
    for line in wit.lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            documentation.push(text.trim());
            continue;
        }
        if line.is_empty() {
            continue;
        }
        if line == "}" {
            open.pop();
            continue;
        }
        let text = std::mem::take(&mut documentation).join("\n");
        let declaration = line.trim_end_matches(['{', ';', ',']).trim();
        let depth = open.len();
        let item = !["use ", "->", "import ", "export ", "package "]
            .iter()
            .any(|word| declaration.starts_with(word));
        if item && text.is_empty() {
            bail!("`{declaration}` has no documentation");
        }
        if let Some(package) = line.strip_prefix("package ") {
            page.push_str(&format!("# {}\n\n{text}\n", package.trim_end_matches(';')));
            continue;
        }
        if declaration.starts_with("use ") || declaration.starts_with("->") {
            if let Some(answer) = declaration.strip_prefix("->") {
                items.push_str(&format!("\n  → `{}`", answer.trim()));
            }
        } else if depth == 0 {
            page.push_str(&items);
            items.clear();
            page.push_str(&format!("\n## {declaration}\n\n{text}\n"));
        } else if line.ends_with('{') || depth == 1 {
            items.push_str(&format!("\n\n### `{declaration}`\n"));
            if !text.is_empty() {
                items.push_str(&format!("\n{text}\n"));
            }
        } else if text.is_empty() {
            items.push_str(&format!("\n- `{declaration}`"));
        } else {
            items.push_str(&format!(
                "\n- `{declaration}` — {}",
                text.replace('\n', " ")
            ));
        }
        if line.ends_with('{') {
            open.push(declaration);
        }
    }
    page.push_str(&items);
    page.push('\n');
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_hold_every_item_and_its_words() {
        let wit = "/// The package.\npackage a:b@0.1.0;\n\n/// An interface.\ninterface i {\n    /// A record.\n    record r {\n        /// A field.\n        f: u32,\n        /// Another.\n        g: u32,\n    }\n    /// Does.\n    go: func(x: r)\n        -> result;\n}\n";
        let page = page(wit).unwrap();
        for part in [
            "# a:b@0.1.0",
            "The package.",
            "## interface i",
            "### `record r`",
            "- `f: u32` — A field.",
            "- `g: u32` — Another.",
            "### `go: func(x: r)`",
            "→ `result`",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        for bare in [
            "interface i {\n}",
            "/// I.\ninterface i {\n    go: func();\n}",
            "/// I.\ninterface i {\n    /// R.\n    record r {\n        f: u32,\n    }\n}",
        ] {
            assert!(super::page(bare).is_err(), "{bare}");
        }
    }
}
