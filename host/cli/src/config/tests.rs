use super::*;
use ambit_anchor_s3::{Lock, LockMode, Login};
use ambit_policy::token::Mode;

fn parse(text: &str) -> Result<Config, String> {
    let environment = |name: &str| match name {
        "SET" => Some("value".to_owned()),
        "LONG" => Some("a-long-value".to_owned()),
        _ => None,
    };
    Config::parse(text, Path::new("/nowhere"), &environment, None)
        .map_err(|problems| Problems(problems).to_string())
}

#[test]
fn the_documented_example_is_valid() {
    let documentation = include_str!("../../../../docs/configuration.md");
    let example = documentation
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let environment = |name: &str| {
        Some(match name {
            "AMBIT_ANCHOR_SEED" | "AMBIT_TOKEN_SEED" => "5a".repeat(32),
            _ if name.starts_with("AMBIT_DATABASE_") => "postgres://user:word@db/ambit".into(),
            _ => "some-value".to_owned(),
        })
    };
    Config::parse(example, Path::new("."), &environment, None)
        .map_err(Problems)
        .unwrap();
}

#[test]
fn a_short_file_has_the_defaults() {
    let config = parse("admin.key = { env = \"SET\" }").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.base_domains, ["localhost"]);
    assert_eq!(config.data, Path::new("/nowhere/ambit-data"));
    let config = "admin.key = { env = \"SET\" }\nbase_domains = [\"Agents.Example.com.\"]";
    assert_eq!(parse(config).unwrap().base_domains, ["agents.example.com"]);
    let message = parse("admin.key = { env = \"SET\" }\n[rate]\nburst = 0").unwrap_err();
    assert!(message.contains("rate.burst"), "{message}");
}

#[test]
fn anchors_need_a_key_that_is_one_and_a_name_that_can_be_one() {
    let anchors = |text: &str| {
        parse(&format!(
            "admin.key = {{ env = \"SET\" }}\n[anchors]\n{text}"
        ))
    };
    let good = anchors("folder = \"/mnt/anchors\"\ninterval_seconds = 3\ninterval_events = 100\nstop_after_seconds = 60")
        .unwrap();
    let kept = &good.anchors.kept;
    assert!(
        matches!(kept, Kept::Folder(path) if path == Path::new("/mnt/anchors")),
        "{kept:?}"
    );
    assert_eq!(good.anchors.name, "localhost");
    assert_eq!(good.anchors.interval, Duration::from_secs(3));
    assert_eq!(good.anchors.events.get(), 100);
    assert_eq!(good.gateway.unanchored, Some(Duration::from_secs(60)));
    for (bad, word) in [
        ("key = { env = \"LONG\" }", "64 hexadecimal digits"),
        ("name = \"a b\"", "without spaces"),
        ("interval_seconds = 0", "at least 1"),
        ("interval_events = 0", "at least 1"),
        ("interval_events = 5000000000", "at least 1"),
        ("bucket = \"x\"", "key, name, folder, s3"),
    ] {
        let message = anchors(bad).unwrap_err();
        assert!(
            message.contains("anchors.") && message.contains(word),
            "{message}"
        );
        assert!(!message.contains("a-long-value"), "{message}");
    }
}

#[test]
fn anchors_on_s3_name_a_bucket_and_whose_it_is() {
    let s3 = |text: &str| {
        let head = "admin.key = { env = \"SET\" }\n[anchors.s3]";
        match parse(&format!("{head}\n{text}"))?.anchors.kept {
            Kept::S3(bucket) => Ok(*bucket),
            Kept::Folder(path) => Err(path.display().to_string()),
        }
    };
    let usual = s3("bucket = \"proofs\"\nregion = \"eu-central-1\"").unwrap();
    assert_eq!(
        (usual.bucket.as_str(), usual.prefix.as_str()),
        ("proofs", "")
    );
    assert!(matches!(usual.login, Login::Found) && usual.lock.is_none());
    let whole = s3(
        "bucket = \"proofs\"\nprefix = \"acme/\"\nendpoint = \"https://s3.example.com\"\naccess_key_id = { env = \"SET\" }\n\
         secret_access_key = { env = \"LONG\" }\nobject_lock = \"compliance\"\nretain_days = 400",
    )
    .unwrap();
    assert_eq!(whole.region.as_deref(), Some("us-east-1"));
    assert_eq!(whole.endpoint.as_deref(), Some("https://s3.example.com/"));
    let mode = LockMode::Compliance;
    assert_eq!(whole.lock, Some(Lock { mode, days: 400 }));
    assert!(matches!(whole.login, Login::Keys { .. }));
    assert!(!format!("{whole:?}").contains("a-long-value"));
    let profile = s3("bucket = \"proofs\"\nregion = \"eu-west-1\"\nprofile = \"audit\"");
    assert!(matches!(profile.unwrap().login, Login::Profile(name) if name == "audit"));

    let message = parse(
        "admin.key = { env = \"SET\" }\n[anchors]\nfolder = \"/mnt\"\n[anchors.s3]\nbucket = \"No\"\nprefix = \"a b\"\n\
         profile = \"audit\"\naccess_key_id = { env = \"LONG\" }\nobject_lock = \"on\"\nretain_days = 0\nlock = 1",
    )
    .unwrap_err();
    for part in [
        "anchors.folder: found /mnt, expected no folder beside `[anchors.s3]`",
        "anchors.s3.bucket: found `No`, expected a bucket's name",
        "anchors.s3.prefix: found `a b`",
        "anchors.s3.region: missing, expected a region",
        "anchors.s3.secret_access_key: missing, expected a secret beside the other half",
        "anchors.s3.profile: found audit, expected no profile beside a key",
        "anchors.s3.object_lock: found `on`, expected `governance` or `compliance`",
        "anchors.s3.retain_days: found `0`, expected whole days",
        "anchors.s3.lock: found `1`, expected no such key; known here: bucket, prefix",
    ] {
        assert!(message.contains(part), "{part} in:\n{message}");
    }
    for (bad, word) in [
        ("", "s3.bucket: missing"),
        ("retain_days = 1", "s3.object_lock: missing"),
        ("object_lock = \"governance\"", "s3.retain_days: missing"),
        ("retain_days = 36501", "1 to 36500"),
        ("endpoint = \"ftp://x\"", "s3.endpoint: found `ftp://x`"),
        ("endpoint = \"http://me:clear@x\"", "s3.endpoint: found `x`"),
        (
            "secret_access_key = \"clear\"",
            "s3.secret_access_key: found no secret",
        ),
    ] {
        let message = s3(bad).unwrap_err();
        assert!(message.contains(word), "{word} in:\n{message}");
        assert!(!message.contains("clear"), "{message}");
    }
}

#[test]
fn a_bucket_may_be_named_in_one_word() {
    let whole = named("s3://proofs/acme/anchors").unwrap().unwrap();
    assert_eq!(
        (whole.bucket.as_str(), whole.prefix.as_str()),
        ("proofs", "acme/anchors")
    );
    assert_eq!(named("s3://proofs").unwrap().unwrap().prefix, "");
    assert!(named("s3://").unwrap().is_err());
    assert!(named("/mnt/anchors").is_none());
}

#[test]
fn tokens_have_a_key_an_issuer_and_a_mode() {
    let tokens = |text: &str| {
        parse(&format!(
            "admin.key = {{ env = \"SET\" }}\n[tokens]\n{text}"
        ))
    };
    let usual = tokens("").unwrap().tokens;
    assert_eq!(
        (usual.issuer.as_str(), usual.mode),
        ("localhost", Mode::Enforced)
    );
    let good = tokens("issuer = \"https://ambit.example\"\nmode = \"warn\"")
        .unwrap()
        .tokens;
    assert_eq!(
        (good.issuer.as_str(), good.mode),
        ("https://ambit.example", Mode::Warn)
    );
    for (bad, word) in [
        ("key = { env = \"LONG\" }", "64 hexadecimal digits"),
        ("mode = \"off\"", "one of `enforced` `warn` `disabled`"),
        ("issuer = \"\"", "1 to 1024 bytes"),
        ("audience = \"x\"", "key, issuer, mode"),
    ] {
        let message = tokens(bad).unwrap_err();
        assert!(
            message.contains("tokens.") && message.contains(word),
            "{message}"
        );
        assert!(!message.contains("a-long-value"), "{message}");
    }
}

#[test]
fn an_own_price_file_goes_before_the_shipped_one_and_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.toml");
    let config = || {
        let text = "admin.key = { env = \"SET\" }\n[ledger]\nprices = \"prices.toml\"";
        let environment = |_: &str| Some("value".to_owned());
        Config::parse(text, folder.path(), &environment, None)
            .map_err(|problems| Problems(problems).to_string())
    };
    let message = config().unwrap_err();
    assert!(
        message.contains("ledger.prices: found prices.toml"),
        "{message}"
    );
    for (text, word) in [
        ("price = [", "no TOML"),
        (
            "price = [{ provider = \"p\", model = \"m\", effective_from = 2026-01-01, input = 1.5, output = \"1\" }]",
            "price[0].input is 1.5",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let message = config().unwrap_err();
        assert!(message.contains(word), "{message}");
    }
    let row = "price = [{ provider = \"p\", model = \"m\", effective_from = 2026-01-01, input = \"1\", output = \"1\" }]";
    std::fs::write(&file, row).unwrap();
    let prices = config().unwrap().prices;
    let today = ambit_ledger::Day::from_ms(1_795_300_000_000);
    assert!(prices.price("p", "m", today).is_ok());
    assert!(prices.price("openai", "gpt-4o-mini", today).is_ok());
}

#[test]
fn all_mistakes_are_reported_together() {
    let message = parse(
        "colour = 1\nlog = \"ambit=loud\"\nbase_domains = [\"münchen.example\"]\nadmin.key = \"clear text\"\n[listen]\ndata = \"0.0.0.0:80\"\n[database]\nkind = \"oracle\"\n[limits]\nbody_kib = 32769\n[rate]\nunlimited = true\nper_minute = 5\nexempt = [\"acme\"]\n\
         [providers.ftp]\nurl = \"ftp://x\"\n[providers.login]\nurl = \"http://user:word@x\"\n\
         [providers.openai]\nkey = { env = \"UNSET\" }\n[providers.\"A b\"]\nurl = \"http://x\"\n\
         [secrets]\napi-token = \"clear text\"\nshort = { env = \"SET\" }\nA_b = { env = \"SET\" }\n\
         [config]\n\"a b\" = \"x\"\nport = 5\nregion = { env = \"GONE\" }\n\
         [tenant.\"No slug\".config]\na = \"x\"\n[tenant.acme]\ncolour = 1\n[tenant.acme.secrets]\nown = { file = \"no/such\" }",
    )
    .unwrap_err();
    for part in [
        "colour",
        "log",
        "admin.key",
        "listen.ops",
        "oracle",
        "providers.openai.url",
        "UNSET",
        "A b",
        "secrets.api-token: found no secret, expected a secret: `{ env",
        "secrets.short: found a secret, expected 8 to 4096 visible ASCII characters",
        "secrets.A_b: found a secret, expected 1 to 64 lower-case letters",
        "config.a b",
        "config.port",
        "config.region: found no value, expected the environment variable GONE to be set",
        "tenant.No slug",
        "tenant.acme.colour",
        "tenant.acme.secrets.own: found no secret, expected a readable file no/such",
        "log: found ambit=loud",
        "base_domains[0]: found `münchen.example`, expected a domain in A-labels",
        "limits.body_kib: found 32769, expected KiB of a request body, 1 to 32768",
        "rate.per_minute: found 5, expected no limit beside `unlimited = true`",
        "rate.exempt[0]: found `acme`, expected `tenant/principal`",
        "providers.ftp.url: found ftp://x",
        "providers.login.url: found http://x, expected an address that can be used",
    ] {
        assert!(message.contains(part), "{part} in:\n{message}");
    }
    assert!(
        !message.contains("clear text") && !message.contains("word"),
        "{message}"
    );
}

#[test]
fn a_name_is_not_a_secret_here_and_a_plain_value_there() {
    let message = parse(
        "admin.key = { env = \"SET\" }\n[secrets]\ntoken = { env = \"LONG\" }\n[tenant.acme.config]\ntoken = \"x\"",
    )
    .unwrap_err();
    assert_eq!(
        message,
        "secrets.token: found a secret, expected a name that is no plain value elsewhere in this file"
    );
}

#[test]
fn postgres_needs_its_logins() {
    let message =
        parse("admin.key = { env = \"SET\" }\n[database]\nkind = \"postgres\"").unwrap_err();
    assert!(
        message.contains("database.app")
            && message.contains("database.operator")
            && message.contains("journal.master_key: missing"),
        "{message}"
    );
    let url = parse(
        "admin.key = { env = \"SET\" }\n[database]\nkind = \"postgres\"\napp = { env = \"LONG\" }",
    )
    .unwrap_err();
    assert!(
        url.contains("database.app: found another secret, expected a connection URL")
            && !url.contains("a-long-value"),
        "{url}"
    );
}
