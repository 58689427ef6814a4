//! One real call of each pure component, over lookups that answer at once: what `call_cost` measures and `start_up` holds to its bar.

use ambit_policy::{Manifest, Permissions};
use ambit_runtime::{Bindings, Call, CallScope, Pure, Runtime, admit};
use sha2::{Digest as _, Sha256};
use std::{error::Error, hint::black_box, sync::Arc, time::Duration};
use wasmtime::{Store, component::HasSelf, component::Linker};

mod guardrail {
    wasmtime::component::bindgen!({ path: ["../../wit/types", "../../wit/guardrail"], world: "ambit:guardrail/guest" });
    ambit_runtime::bindings!(Guest, GuestPre);
}

mod auth {
    wasmtime::component::bindgen!({ path: ["../../wit/types", "../../wit/auth"], world: "ambit:auth/guest" });
    ambit_runtime::bindings!(Guest, GuestPre);
}

mod routing {
    wasmtime::component::bindgen!({ path: ["../../wit/types", "../../wit/routing"], world: "ambit:routing/guest" });
    ambit_runtime::bindings!(Guest, GuestPre);
}

mod agent {
    wasmtime::component::bindgen!({ path: ["../../wit/types", "../../wit/agent"], world: "ambit:agent/guest" });
    ambit_runtime::bindings!(Guest, GuestPre);
}

/// A component under measure: makes its call and says whether the answer was the one expected.
pub(crate) type Sample = Box<dyn FnMut(&CallScope) -> bool>;

/// A component, by the name of its folder, with what its call does.
pub(crate) const COMPONENTS: [(&str, &str); 5] = [
    ("guardrail-baseline", "check of 600 B"),
    ("auth-api-key", "authenticate"),
    ("auth-jwt", "authenticate, signature apart"),
    ("routing-subdomain", "route"),
    ("agent-assistant", "first step"),
];

/// The call of the component `name`, whose bytes are `wasm`, in this reuse class.
pub(crate) fn sample(
    runtime: &Arc<Runtime>,
    name: &str,
    wasm: &[u8],
    reuse: &str,
) -> Result<Sample, Box<dyn Error>> {
    let component = Part {
        runtime,
        name,
        wasm,
        reuse,
    };
    match name {
        "guardrail-baseline" => check(&component),
        "auth-api-key" => authenticate(
            &component,
            &format!("amb_{:016x}_{}", 7, hex::encode([7; 32])),
        ),
        "auth-jwt" => authenticate(&component, TOKEN),
        "routing-subdomain" => route(&component),
        "agent-assistant" => step(&component),
        _ => Err(format!("no sample call of `{name}`").into()),
    }
}

/// 600 bytes as people write to a model: prose, with a number, a date and a name of a file.
pub(crate) const PROMPT: &str = "We are moving the reporting service to the new cluster this week and I would like a second \
pair of eyes on the plan. At the moment it runs every night at 02:30, reads about 40,000 rows from the orders table and writes \
a summary to reports/daily.csv, which the finance team opens in the morning. After the move it should run every hour and keep \
the last 90 days. Could you list the risks you see, say which of them we can test before Friday, and propose an order of work \
that lets us go back at any point without losing rows? Please keep it short, and say what you are not sure about. Thank you very much!";

/// `{"alg":"ES256","kid":"2026-08","typ":"at+jwt"}`, valid from 2026 to 2100.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjIwMjYtMDgiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwic3ViI\
joiYWRhQGV4YW1wbGUuY29tIiwiYXVkIjoiYW1iaXQiLCJzY29wZSI6ImNoYXQgcmV0cmlldmUiLCJpYXQiOjE3NjcyMjU2MDAsImV4cCI6NDEwMjQ0NDgwMH0.AAECAwQF\
BgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-Pw";

struct Part<'a> {
    runtime: &'a Arc<Runtime>,
    name: &'a str,
    wasm: &'a [u8],
    reuse: &'a str,
}

impl Part<'_> {
    fn link<H: Send + 'static, B: Bindings<H>>(
        &self,
        kind: &str,
        add: impl FnOnce(&mut Linker<Call<H>>) -> wasmtime::Result<()>,
    ) -> Result<Pure<H, B>, Box<dyn Error>> {
        let (name, reuse) = (self.name, self.reuse);
        let text = format!(
            "[component]\nname = \"sample:{name}\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\nreuse = \"{reuse}\"\n"
        );
        let manifest = Manifest::parse(&text).map_err(|problems| format!("{problems:?}"))?;
        let code = self.runtime.load_blocking(self.wasm, manifest)?;
        Ok(Pure::link(
            self.runtime,
            &admit(&code, &Permissions::default())?,
            add,
        )?)
    }
}

/// Boxes a call of a linked component.
fn boxed<H: Clone + Send + 'static, B: Bindings<H>>(
    linked: Pure<H, B>,
    host: H,
    run: impl Fn(&mut Store<Call<H>>, &B) -> wasmtime::Result<bool> + 'static,
) -> Sample {
    Box::new(move |scope| {
        let answer = linked.call(scope, host.clone(), |store, guest| run(store, guest));
        black_box(answer).unwrap_or(false)
    })
}

// The guardrail, with the rules of a tenant that masks.

#[derive(Clone)]
struct Rules;

impl guardrail::ambit::guardrail::rules::Host for Rules {
    fn for_stage(
        &mut self,
        _: guardrail::ambit::guardrail::rules::Stage,
    ) -> Vec<guardrail::ambit::guardrail::rules::Rule> {
        use guardrail::ambit::guardrail::rules::{Action, Rule};
        let rule = |category: &str, action| Rule {
            category: category.to_owned(),
            action,
        };
        vec![
            rule("prompt-injection", Action::Reject),
            rule("secret", Action::Mask),
        ]
    }
}

fn check(part: &Part<'_>) -> Result<Sample, Box<dyn Error>> {
    use guardrail::{
        Guest, ambit::guardrail::rules, exports::ambit::guardrail::guardrail::Verdict,
    };
    let text = &PROMPT[..PROMPT.floor_char_boundary(600)];
    let linked = part.link::<Rules, Guest>("guardrail", |linker| {
        rules::add_to_linker::<Call<Rules>, HasSelf<Rules>>(linker, |call| &mut call.host)
    })?;
    Ok(boxed(linked, Rules, move |store, guest| {
        let guardrail = guest.ambit_guardrail_guardrail();
        let answer =
            guardrail.call_check(store, rules::Stage::Input, black_box(text), true, &[])?;
        Ok(answer.is_ok_and(|outcome| {
            matches!(outcome.verdict, Verdict::Allow) && outcome.release_through == 600
        }))
    }))
}

// Both authenticators, with the record of the one credential that is shown.

#[derive(Clone)]
struct Keys;

impl auth::ambit::auth::keys::Host for Keys {
    fn lookup(&mut self, public_id: String) -> Option<auth::ambit::auth::keys::ApiKey> {
        Some(auth::ambit::auth::keys::ApiKey {
            secret_hash: Sha256::digest([7; 32]).to_vec(),
            principal: format!("key:{public_id}"),
            scopes: vec!["chat".to_owned(), "retrieve".to_owned()],
            expires_at: None,
            permissions: None,
        })
    }

    fn lookup_issuer(&mut self, issuer: String) -> Option<auth::ambit::auth::keys::Issuer> {
        Some(auth::ambit::auth::keys::Issuer {
            issuer,
            audiences: vec!["ambit".to_owned()],
            algorithms: vec!["ES256".to_owned()],
            types: Vec::new(),
            leeway: 30,
            scopes: vec!["chat".to_owned(), "retrieve".to_owned()],
        })
    }
}

impl auth::ambit::auth::verify::Host for Keys {
    fn verify(
        &mut self,
        _: String,
        _: Option<String>,
        _: String,
        _: Vec<u8>,
        _: Vec<u8>,
    ) -> Result<bool, auth::ambit::auth::verify::VerifyError> {
        Ok(true)
    }
}

fn authenticate(part: &Part<'_>, credential: &str) -> Result<Sample, Box<dyn Error>> {
    use auth::{Guest, ambit::auth::keys, ambit::auth::verify};
    let linked = part.link::<Keys, Guest>("auth", |linker| {
        keys::add_to_linker::<Call<Keys>, HasSelf<Keys>>(linker, |call| &mut call.host)?;
        verify::add_to_linker::<Call<Keys>, HasSelf<Keys>>(linker, |call| &mut call.host)
    })?;
    let facts = auth::ambit::types::types::RequestFacts {
        method: "POST".to_owned(),
        host: "acme.localhost:8080".to_owned(),
        path: "/v1/chat/completions".to_owned(),
    };
    let credential = credential.to_owned();
    Ok(boxed(linked, Keys, move |store, guest| {
        let authenticator = guest.ambit_auth_authenticator();
        let answer = authenticator.call_authenticate(store, black_box(&credential), &facts)?;
        Ok(answer.is_ok_and(|principal| principal.scopes.len() == 2))
    }))
}

// The router, with one domain and one tenant.

#[derive(Clone)]
struct Names;

impl routing::ambit::routing::directory::Host for Names {
    fn base_domains(&mut self) -> Vec<String> {
        vec!["localhost".to_owned()]
    }
    fn tenant_by_label(&mut self, label: String) -> Option<String> {
        Some(format!("tenant_{label}"))
    }
    fn tenant_by_name(&mut self, _: String) -> Option<String> {
        None
    }
}

fn route(part: &Part<'_>) -> Result<Sample, Box<dyn Error>> {
    use routing::{Guest, ambit::routing::directory};
    let linked = part.link::<Names, Guest>("routing", |linker| {
        directory::add_to_linker::<Call<Names>, HasSelf<Names>>(linker, |call| &mut call.host)
    })?;
    let facts = routing::ambit::types::types::RequestFacts {
        method: "POST".to_owned(),
        host: "Acme.localhost:8080".to_owned(),
        path: "/v1/chat/completions".to_owned(),
    };
    Ok(boxed(linked, Names, move |store, guest| {
        let answer = guest
            .ambit_routing_router()
            .call_route(store, black_box(&facts))?;
        Ok(answer.is_ok_and(|found| found.tenant == "tenant_acme"))
    }))
}

// The agent, asked a first question.

fn step(part: &Part<'_>) -> Result<Sample, Box<dyn Error>> {
    use agent::{
        Guest, ambit::types::types::Role, exports::ambit::agent::agent::Definition,
        exports::ambit::agent::agent::Event, exports::ambit::agent::agent::Message,
        exports::ambit::agent::agent::Move, exports::ambit::agent::agent::Turn,
    };
    let linked = part.link::<(), Guest>("agent", |_| Ok(()))?;
    let turn = Turn {
        definition: Definition {
            name: "assistant".to_owned(),
            instructions: "Answer from the handbook and cite it.".to_owned(),
            tools: Vec::new(),
            client_tools: Vec::new(),
            collections: vec!["handbook".to_owned()],
            max_passages: 5,
            steps_left: 8,
        },
        step: 0,
        events: vec![Event::Message(Message {
            id: 1,
            role: Role::User,
            size: 600,
            text: None,
        })],
        state: Vec::new(),
    };
    Ok(boxed(linked, (), move |store, guest| {
        let answer = guest
            .ambit_agent_agent()
            .call_step(store, black_box(&turn))?;
        Ok(answer.is_ok_and(|decision| matches!(decision.move_, Move::Retrieve(_))))
    }))
}

/// CPU time of this thread: other work on the machine moves it little.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
