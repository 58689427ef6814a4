//! What `ambit up` says when it is ready: one line for programs, or lines for people, each ready to paste into any terminal.

use crate::{demo, installation::Keys};
use ambit_session::ModelName;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::Path,
};

pub(crate) struct Welcome<'a> {
    /// Where this machine reaches the tenants' listener.
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) keys: &'a Keys,
    pub(crate) model: Option<&'a ModelName>,
    /// This program, and the installation's folder: whoever pastes the line may stand elsewhere, and have no `ambit` in PATH.
    pub(crate) program: &'a Path,
    pub(crate) data: &'a Path,
    /// Whether this system resolves names under `localhost` to `address`. Some do, some do not.
    pub(crate) resolves: bool,
}

/// Whether a program that asks the system finds `address` under a tenant's name.
pub(crate) fn resolves(address: SocketAddr) -> bool {
    (host(demo::TENANTS[0].slug), address.port())
        .to_socket_addrs()
        .is_ok_and(|mut found| found.any(|one| one == address))
}

impl Welcome<'_> {
    pub(crate) fn json(&self) -> Value {
        let tenants: Vec<_> = demo::TENANTS
            .iter()
            .filter_map(|tenant| Some((tenant.slug, self.keys.tenants.get(tenant.slug)?)))
            .map(|(slug, key)| json!({ "slug": slug, "host": host(slug), "api_key": key }))
            .collect();
        json!({
            "url": url(self.address), "ops_url": url(self.ops), "admin_key": self.keys.admin_key, "tenants": tenants
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("Ambit is ready at {}.\n", url(self.address));
        if self.ops != self.address {
            line(
                &mut text,
                &format!("Health, metrics and the admin API: {}.", url(self.ops)),
            );
        }
        match self.model {
            Some(model) => line(&mut text, &format!("Agents use {model}.")),
            None => line(
                &mut text,
                "Agents answer with sentences of their documents; for a model: OPENAI_API_KEY=… or --provider-url.",
            ),
        }
        line(
            &mut text,
            &format!("\n  admin key   {}", self.keys.admin_key),
        );
        for tenant in demo::TENANTS {
            let address = format!("http://{}:{}/v1", host(tenant.slug), self.address.port());
            line(
                &mut text,
                &format!(
                    "  {:<11} {address}   {}",
                    tenant.slug,
                    self.key(tenant.slug)
                ),
            );
        }
        let tried = [self.curl(), self.python(), self.command()];
        line(
            &mut text,
            &format!("\nTry it:\n\n  {}\n", tried.join("\n\n  ")),
        );
        text.push_str("Stop with Ctrl-C; start again with the same command.");
        text
    }

    /// curl knows what names under `localhost` mean, whatever the system says.
    fn curl(&self) -> String {
        let slug = demo::TENANTS[0].slug;
        let ip = self.address.ip();
        let (base, host) = if ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST {
            (self.named(slug), String::new())
        } else {
            (url(self.address), format!(" -H 'host: {}'", host(slug)))
        };
        let body = json!({
            "model": "assistant", "stream": true, "messages": [{ "role": "user", "content": demo::QUESTION }]
        });
        format!(
            "curl {base}/v1/chat/completions{host} -H 'authorization: Bearer {}' -H 'content-type: application/json' -d {}",
            self.key(slug),
            quoted(&body.to_string())
        )
    }

    fn python(&self) -> String {
        let slug = demo::TENANTS[0].slug;
        let key = self.key(slug);
        let client = if self.resolves {
            format!(
                "OpenAI(base_url='{}/v1', api_key='{key}')",
                self.named(slug)
            )
        } else {
            format!(
                "OpenAI(base_url='{}/v1', api_key='{key}', default_headers={{'Host': '{}'}})",
                url(self.address),
                host(slug)
            )
        };
        let question = demo::QUESTION;
        format!(
            "python3 -c \"from openai import OpenAI; print({client}.chat.completions.create(model='assistant', \
             messages=[{{'role': 'user', 'content': '{question}'}}]).choices[0].message.content)\""
        )
    }

    fn command(&self) -> String {
        format!(
            "{} chat --data {} {}",
            quoted(&self.program.to_string_lossy()),
            quoted(&self.data.to_string_lossy()),
            quoted(demo::QUESTION)
        )
    }

    fn key(&self, slug: &str) -> &str {
        self.keys.tenants.get(slug).map_or("-", String::as_str)
    }

    fn named(&self, slug: &str) -> String {
        format!("http://{}:{}", host(slug), self.address.port())
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn host(slug: &str) -> String {
    format!("{slug}.localhost")
}

fn line(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}

/// As a POSIX shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: &str, ops: &str, resolves: bool) -> String {
        let keys = Keys {
            admin_key: "adm_1".into(),
            tenants: demo::TENANTS
                .iter()
                .map(|tenant| (tenant.slug.to_owned(), format!("amb_{}", tenant.slug)))
                .collect(),
        };
        let welcome = Welcome {
            address: address.parse().unwrap(),
            ops: ops.parse().unwrap(),
            keys: &keys,
            model: None,
            program: Path::new("/opt/it's here/ambit"),
            data: Path::new("/var/lib/ambit"),
            resolves,
        };
        welcome.text()
    }

    #[track_caller]
    fn has(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }

    #[test]
    fn the_lines_stand_for_themselves() {
        let one = "127.0.0.1:8080";
        let named = text(one, one, true);
        has(
            &named,
            &[
                "ready at http://127.0.0.1:8080.",
                "  curl http://acme.localhost:8080/v1/chat/completions -H 'authorization: Bearer amb_acme'",
                "OpenAI(base_url='http://acme.localhost:8080/v1', api_key='amb_acme').chat",
                r"  '/opt/it'\''s here/ambit' chat --data /var/lib/ambit 'How are",
            ],
        );
        assert!(!named.contains("admin API"), "{named}");
        // Where names under `localhost` mean nothing, Python is told the host apart; curl needs no telling.
        has(
            &text(one, one, false),
            &[
                "curl http://acme.localhost:8080/v1",
                "OpenAI(base_url='http://127.0.0.1:8080/v1', api_key='amb_acme', default_headers={'Host': 'acme.localhost'}).chat",
            ],
        );
    }

    #[test]
    fn an_address_that_no_local_name_means_is_used_itself() {
        let text = text("10.0.0.5:8080", "127.0.0.1:9090", false);
        has(
            &text,
            &[
                "curl http://10.0.0.5:8080/v1/chat/completions -H 'host: acme.localhost'",
                "OpenAI(base_url='http://10.0.0.5:8080/v1'",
                "the admin API: http://127.0.0.1:9090.",
            ],
        );
    }
}
