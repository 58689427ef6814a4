//! Every command, both ways: through the server while it runs, and in the command's own process, under the installation's lock, while it
//! does not. The same commands run both times and must leave the same things.

use ambit_scenarios::{Ambit, NewComponent, PATIENCE, Signal, binary, guest};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    time::timeout,
};

struct Commands {
    binary: PathBuf,
    data: PathBuf,
    files: PathBuf,
}

impl Commands {
    /// Runs a command that must succeed; what it printed.
    async fn text(&self, arguments: &[&str]) -> String {
        let output = Ambit::command(&self.binary, &self.data, arguments)
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it twice, as text, which must not be empty, and as JSON.
    async fn json(&self, arguments: &[&str]) -> Value {
        assert!(
            !self.text(arguments).await.trim().is_empty(),
            "{arguments:?}"
        );
        let arguments = [arguments, &["--format", "json"]].concat();
        let printed = self.text(&arguments).await;
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let output = Ambit::command(&self.binary, &self.data, arguments)
            .await
            .unwrap();
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{arguments:?}"
        );
        String::from_utf8(output.stderr).unwrap()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.files.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Everything an operator does, in one tenant's life.
    async fn live(&self, tenant: &str) {
        let of_tenant = |arguments: &[&'static str]| -> Vec<String> {
            let all = arguments.iter().copied().chain(["--tenant", tenant]);
            all.map(str::to_owned).collect()
        };
        let json = async |arguments: &[&'static str]| {
            let arguments = of_tenant(arguments);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.json(&arguments).await
        };
        let names = |listed: &Value, key: &str| -> Vec<String> {
            let entries = listed.as_array().unwrap().iter();
            entries
                .map(|entry| entry[key].as_str().unwrap().to_owned())
                .collect()
        };

        // Twice, as `json` does it: the second finds it there.
        assert_eq!(
            self.json(&["tenant", "create", tenant]).await["slug"],
            tenant
        );
        let listed = self.json(&["tenant", "list"]).await;
        assert!(
            names(&listed, "slug").contains(&tenant.to_owned()),
            "{listed}"
        );

        let made = json(&["key", "create", "laptop"]).await;
        let id = made["id"].as_str().unwrap();
        let secret = made["key"].as_str().unwrap();
        let listed = json(&["key", "list"]).await;
        assert_eq!(names(&listed, "name"), ["laptop", "laptop"]);
        assert!(
            !listed.to_string().contains(secret),
            "a secret is shown once"
        );
        let revoke = ["key", "revoke", id, "--tenant", tenant];
        assert!(self.json(&revoke).await["revoked_ms"].is_i64());

        let short = [
            "key",
            "create",
            "short",
            "--days",
            "2",
            "--scopes",
            "moderate,chat",
        ];
        let made = json(&short).await;
        assert_eq!(made["scopes"], json!(["moderate", "chat"]));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let lives = made["expires_ms"].as_u64().unwrap() - now.as_millis() as u64;
        assert_eq!((lives + 60_000) / (24 * 3_600_000), 2, "{made}");

        let component =
            NewComponent::new(&format!("test:{tenant}"), "tool", guest("benign").unwrap());
        let wasm = self.write("tool.wasm", component.wasm());
        self.write("tool.toml", component.manifest());
        let installed = self.json(&["component", "install", &wasm]).await;
        assert_eq!(
            installed["new"], false,
            "the first time was before: {installed}"
        );
        let slot = format!("tool/test:{tenant}");
        let swap = [
            "component",
            "swap",
            &slot,
            component.name.as_str(),
            "--tenant",
            tenant,
        ];
        assert_eq!(self.json(&swap).await["digest"], installed["digest"]);
        let listed = self.json(&["component", "list"]).await;
        assert!(names(&listed, "name").contains(&component.name), "{listed}");

        let grant = self.write("grant.toml", "models = [\"extractive/*\"]\n");
        let set = [
            "grant",
            "set",
            "ambit:pass-through",
            &grant,
            "--tenant",
            tenant,
        ];
        self.json(&set).await;
        let shown = json(&["grant", "show"]).await;
        assert_eq!(
            shown[0]["permissions"]["models"],
            json!(["extractive/*"]),
            "{shown}"
        );
        let budget = [
            "budget", "set", "9.5", "--tenant", tenant, "--period", "day", "--agent", "*",
        ];
        assert_eq!(self.json(&budget).await[0]["limit"], "9.5");
        let listed = self.json(&["budget", "list", "--tenant", tenant]).await;
        assert_eq!(listed[0]["id"], "*", "{listed}");
        let budget = [
            "budget", "remove", "--tenant", tenant, "--period", "day", "--agent", "*",
        ];
        self.json(&budget).await;
        self.json(&["costs", "--tenant", tenant, "--by", "key,day"])
            .await;
        self.json(&["costs", "--check"]).await;

        let all = self.json(&["grant", "show"]).await;
        assert!(names(&all, "component").contains(&"ambit:agent-assistant".to_owned()));
        let one = self.json(&["grant", "show", "ambit:agent-assistant"]).await;
        assert!(one.to_string().contains("read:*"), "{one}");

        let documents = self.files.join("documents");
        std::fs::create_dir_all(&documents).unwrap();
        for n in 0..3 {
            let text = format!("# Heron {n}\n\nA heron of number {n} stands in the reeds.\n");
            std::fs::write(documents.join(format!("{n}.md")), text).unwrap();
        }
        let folder = documents.display().to_string();
        let load = ["collection", "load", "birds", &folder, "--tenant", tenant];
        let loaded = self.json(&load).await;
        assert_eq!(
            (&loaded["written"], &loaded["unchanged"]),
            (&json!(0), &json!(3))
        );
        let listed = json(&["collection", "list"]).await;
        assert_eq!(
            (&listed[0]["name"], &listed[0]["documents"]),
            (&json!("birds"), &json!(3))
        );

        let agent = self.write(
            "agent.toml",
            format!(
                "name = \"birds\"\nmodel = \"extractive/sentences\"\ncollections = [\"birds\"]\ntools = [\"test:{tenant}\"]\n"
            ),
        );
        let apply = ["agent", "apply", &agent, "--tenant", tenant];
        let applied = self.json(&apply).await;
        assert_eq!(
            (&applied["version"], &applied["bound"]),
            (&json!(1), &json!(true))
        );
        let listed = json(&["agent", "list"]).await;
        assert_eq!(names(&listed, "name"), ["birds"]);
        self.chat(tenant, &[]).await;
        self.erase(tenant).await;

        let delete = ["collection", "delete", "birds", "--prefix", "1"];
        assert_eq!(
            self.text(&[&delete[..], &["--tenant", tenant]].concat())
                .await
                .trim(),
            "removed: 1"
        );
        assert_eq!(json(&delete).await["removed"], 0);
        let listed = json(&["collection", "list"]).await;
        assert_eq!(listed[0]["documents"], 2);
    }

    /// Talks to a tenant that has no bootstrap key, with one made for it and revoked.
    async fn chat(&self, tenant: &str, elsewhere: &[&str]) {
        let say = [
            "chat",
            "Where does the heron of number 2 stand?",
            "--agent",
            "birds",
            "--tenant",
            tenant,
        ];
        let before = self.revoked_keys(tenant).await;
        let said = self.text(&[&say[..], elsewhere].concat()).await;
        assert!(said.contains("in the reeds"), "{said}");
        assert_eq!(self.revoked_keys(tenant).await, before + 1);
    }

    /// Leaves a conversation amid it.
    async fn interrupted_chat(&self, tenant: &str) {
        let before = self.revoked_keys(tenant).await;
        let mut talk = Command::new(&self.binary)
            .args(["chat", "--agent", "birds", "--tenant", tenant, "--data"])
            .arg(&self.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut ask, answers) = (talk.stdin.take().unwrap(), talk.stdout.take().unwrap());
        ask.write_all(b"Where does the heron of number 2 stand?\n")
            .await
            .unwrap();
        let mut answers = BufReader::new(answers).lines();
        let answer = answers.next_line().await.unwrap();
        assert!(answer.is_some_and(|line| line.contains("in the reeds")));
        Signal::Interrupt.send(talk.id().unwrap()).await.unwrap();
        let ended = timeout(PATIENCE, talk.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(130));
        assert_eq!(self.revoked_keys(tenant).await, before + 1);
    }

    /// How many keys were made for conversations; all of them are revoked.
    async fn revoked_keys(&self, tenant: &str) -> usize {
        let keys = self.json(&["key", "list", "--tenant", tenant]).await;
        let keys = keys.as_array().unwrap().iter();
        let made: Vec<_> = keys.filter(|key| key["name"] == "ambit chat").collect();
        for key in &made {
            assert!(key["revoked_ms"].is_i64(), "{key}");
            assert_eq!(key["scopes"], json!(["chat"]));
        }
        made.len()
    }

    /// What was said in a session can be read until it is erased.
    async fn erase(&self, tenant: &str) {
        let list = ["session", "list", "--tenant", tenant];
        let listed = self.json(&list).await;
        let session = &listed[0];
        assert_eq!(
            (&session["agent"], &session["erased_ms"]),
            (&json!("birds"), &json!(null))
        );
        let id = session["id"].as_str().unwrap();
        let erase = ["session", "erase", "--session", id, "--tenant", tenant];
        assert_eq!(self.text(&erase).await.trim(), "erased: 1");
        assert_eq!(self.json(&erase).await["erased"], 0);
        assert!(self.json(&list).await[0]["erased_ms"].is_i64());
        let principal = session["principal"].as_str().unwrap();
        let all = [
            "session",
            "erase",
            "--principal",
            principal,
            "--tenant",
            tenant,
        ];
        assert_eq!(self.json(&all).await, json!({"erased": 0, "open": 0}));
        let absent = ["session", "erase", "--session", "ses_0", "--tenant", tenant];
        let told = self.refused(&absent).await;
        assert!(told.contains("ses_0"), "{told}");
    }

    /// What is installed and granted, told of an installed component and of a file.
    async fn look(&self, elsewhere: &[&str]) {
        let name = "ambit:tool-datetime";
        let seen = async |verb| self.json_of(&["component", verb, name], elsewhere).await;
        let (code, inspected) = seen("inspect").await;
        assert!(code && inspected["manifest"].to_string().contains(name));
        let (code, checked) = seen("check").await;
        assert!(code && checked["admitted"] == true, "{checked}");

        // A file gets what is granted to its name.
        let tables = "[permissions]\nkeyvalue = [\"notes\"]\n";
        let guest = guest("key_keeper").unwrap();
        let component = NewComponent::new("test:keys", "tool", guest).tables(tables);
        let wasm = self.write("keys.wasm", component.wasm());
        self.write("keys.toml", component.manifest());
        let check = ["component", "check", &wasm];
        let grant = |text| self.write("keys-grant.toml", text);
        for (granted, admitted) in [("", false), ("keyvalue = [\"notes\"]\n", true)] {
            self.json(&["grant", "set", "test:keys", &grant(granted)])
                .await;
            let (code, checked) = self.json_of(&check, elsewhere).await;
            assert_eq!((code, &checked["admitted"]), (admitted, &json!(admitted)));
        }
        let (code, _) = self
            .json_of(&[&check[..], &["--grant", &grant("")]].concat(), elsewhere)
            .await;
        assert!(!code, "a grant that is named counts alone");
    }

    /// Whether it succeeded, and the JSON it printed in any case.
    async fn json_of(&self, arguments: &[&str], elsewhere: &[&str]) -> (bool, Value) {
        let arguments = [arguments, elsewhere, &["--format", "json"]].concat();
        let output = Ambit::command(&self.binary, &self.data, &arguments)
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let printed = serde_json::from_slice(&output.stdout);
        (
            output.status.success(),
            printed.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}")),
        )
    }

    async fn end(&self, tenant: &str) {
        let delete = ["collection", "delete", "birds", "--tenant", tenant];
        self.json(&delete).await;
        let list = ["collection", "list", "--tenant", tenant, "--format", "json"];
        assert_eq!(self.text(&list).await.trim(), "[]");
    }

    /// Mistakes are told in words, with a failing exit code and nothing on stdout.
    async fn mistakes(&self) {
        for (arguments, words) in [
            (&["tenant", "create", "Not A Name"][..], "tenant"),
            (&["key", "list", "--tenant", "nobody"], "nobody"),
            (
                &["chat", "Hello?", "--tenant", "nobody", "--key", "amb_x_y"],
                "nobody",
            ),
            (&["chat", "Hello?", "--tenant", "nobody"], "nobody"),
            (
                &["component", "inspect", "ambit:absent"],
                "neither a file nor an installed component",
            ),
            (&["chat", "Hello?", "--agent", "absent"], "absent"),
            (
                &["key", "revoke", "absent", "--tenant", "acme"],
                "no such key",
            ),
            (
                &["collection", "load", "x", "/absent", "--tenant", "acme"],
                "/absent",
            ),
            (
                &["component", "swap", "guardrail", "ambit:absent"],
                "no such component",
            ),
            (
                &[
                    "component",
                    "swap",
                    "tool/ambit:tool-datetime",
                    "ambit:guardrail-baseline",
                ],
                "kind",
            ),
        ] {
            let told = self.refused(arguments).await;
            assert!(
                told.starts_with("error: ") && told.contains(words),
                "{arguments:?}: {told}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_with_and_without_a_server() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let commands = Commands {
        binary,
        data: folder.path().join("data"),
        files: folder.path().to_owned(),
    };
    let told = commands.refused(&["tenant", "list"]).await;
    assert!(told.contains("ambit up"), "{told}");

    let mut ambit = Ambit::up_on(&commands.binary, &commands.data, None)
        .await
        .unwrap();
    commands.live("initech").await;
    commands.mistakes().await;
    let key = ambit.tenant("globex").api_key.clone();
    let chat = [
        "chat",
        "Which interface does a guardrail export?",
        "--tenant",
        "globex",
    ];
    assert!(!commands.text(&chat).await.trim().is_empty());
    assert!(
        !commands
            .text(&[&chat[..], &["--key", &key]].concat())
            .await
            .trim()
            .is_empty()
    );
    // Whoever reads may have seen enough.
    let list = format!(
        "{:?} component list --data {:?} | true",
        commands.binary, commands.data
    );
    let cut = Command::new("sh")
        .args(["-c", &list])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&cut.stderr), "");
    let (ops, admin_key) = (ambit.up.ops_url.clone(), ambit.up.admin_key.clone());
    let elsewhere = ["--url", &ops, "--admin-key", &admin_key];
    let list = [&["tenant", "list"][..], &elsewhere].concat();
    assert!(commands.text(&list).await.contains("initech"));
    commands.chat("initech", &elsewhere).await;
    commands.interrupted_chat("initech").await;
    // What is protected on the way there stays so on the way to the tenants, whose address this server does not know.
    let protected = ["--url", "https://127.0.0.1:9", "--admin-key", &admin_key];
    let told = commands
        .refused(&[&["chat", "Hello?"][..], &protected].concat())
        .await;
    assert!(told.contains("--api https://"), "{told}");
    commands.look(&elsewhere).await;

    ambit.signal(Signal::Terminate).await.unwrap();
    assert!(ambit.ended().await.unwrap().success());
    commands.live("umbrella").await;
    commands.mistakes().await;
    assert!(!commands.text(&chat).await.trim().is_empty());
    commands.look(&[]).await;
    commands.end("initech").await;

    // A server that was killed leaves its file behind; the lock tells the truth.
    let mut ambit = Ambit::up_on(&commands.binary, &commands.data, None)
        .await
        .unwrap();
    ambit.signal(Signal::Kill).await.unwrap();
    ambit.ended().await.unwrap();
    assert!(Path::new(&commands.data).join("server.json").exists());
    assert!(!commands.text(&chat).await.trim().is_empty());
    assert!(!Path::new(&commands.data).join("server.json").exists());
    commands.end("umbrella").await;

    let ambit = Ambit::up_on(&commands.binary, &commands.data, None)
        .await
        .unwrap();
    let listed = ambit.get("/tenants").await.unwrap();
    let slugs: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tenant| tenant["slug"].as_str().unwrap())
        .collect();
    assert_eq!(slugs, ["acme", "globex", "initech", "umbrella"]);
}

/// An installation's commands go by the configuration it was served with, wherever that lies, also while nothing is served.
#[tokio::test(flavor = "multi_thread")]
async fn commands_go_by_the_configuration_that_was_served() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let end = async |mut ambit: Ambit| {
        ambit.signal(Signal::Terminate).await.unwrap();
        assert!(ambit.ended().await.unwrap().success());
    };
    let create = async |slug: &str| {
        let arguments = ["tenant", "create", slug, "--format", "json"];
        let output = Ambit::command(&binary, &data, arguments).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let tenant: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (tenant["host"].as_str().map(str::to_owned), told)
    };
    let ambit = Ambit::up_on(&binary, &data, None).await.unwrap();
    std::fs::write(folder.path().join("admin.key"), &ambit.up.admin_key).unwrap();
    end(ambit).await;
    assert_eq!(create("one").await.0.as_deref(), Some("one.localhost"));

    let own = folder.path().join("own.toml");
    let configuration = "base_domains = [\"example.test\"]\nlisten.data = \"127.0.0.1:0\"\nadmin.key = { file = \"admin.key\" }\n";
    // What the command says of components goes before what the file says.
    let nowhere = "components = \"nowhere\"\n";
    std::fs::write(&own, format!("data = \"data\"\n{nowhere}{configuration}")).unwrap();
    end(Ambit::serve(&binary, &own, &data).await.unwrap()).await;
    assert_eq!(create("two").await.0.as_deref(), Some("two.example.test"));

    // One that means another folder by now is not followed there.
    std::fs::write(&own, format!("data = \"other\"\n{configuration}")).unwrap();
    let (host, told) = create("three").await;
    assert!(host.is_none() && told.contains("own.toml"), "{told}");
    end(Ambit::up_on(&binary, &data, None).await.unwrap()).await;
    assert_eq!(create("three").await.0.as_deref(), Some("three.localhost"));
}
