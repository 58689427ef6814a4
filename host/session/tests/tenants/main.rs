//! Live tenants over real components: what one process changes, another takes in.

mod support;

use ambit_ledger::{Budget, BudgetScope, Money, Period};
use ambit_store::{TenantStore, TokenRecord};
use ambit_types::{AgentName, TokenId};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::{Installation, key};

/// Waits for what must come.
async fn until(what: &str, come: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !come().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn apply(tenant: &TenantStore, agents: &[(AgentName, Value)]) {
    for (name, definition) in agents {
        tenant.apply_agent(name, definition).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_ends_everywhere_whatever_else_cannot_be_taken_in() {
    let installation = Installation::new().await;
    let mut tenants = Vec::new();
    for slug in ["acme", "globex", "initech"] {
        let tenant = installation.tenant(slug).await;
        let (credential, id) = key(&tenant).await;
        tenants.push((tenant, credential, id));
    }
    let there = installation.process().await;
    // Changed before anybody has looked for changes.
    let revoke = async |at: usize| {
        let (tenant, _, id) = &tenants[at];
        assert!(tenant.revoke_key(id, 1).await.unwrap());
    };
    let let_in = async |at: usize| {
        let (tenant, credential, _) = &tenants[at];
        there.lets_in(tenant.id(), credential).await
    };
    assert!(let_in(0).await && let_in(1).await && let_in(2).await);
    revoke(0).await;
    there.tenants.look().await.unwrap();
    assert!(
        !let_in(0).await,
        "the first look sees what changed before it"
    );

    // Two tenants that cannot be bound where a component's file is missing; one of them has a place before or after a third that can.
    let binding = installation.binding("auth/1", "auth", "auth_jwt").await;
    there.tenants.look().await.unwrap();
    let file = installation.file(binding.component);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let live = |at: usize| there.tenants.by_id(tenants[at].0.id()).unwrap();
    let before = [live(0), live(2)];
    let bound_anew = || !Arc::ptr_eq(&before[0], &live(0)) && !Arc::ptr_eq(&before[1], &live(2));
    for at in [0, 2] {
        tenants[at].0.bind_slot(&binding).await.unwrap();
    }
    revoke(1).await;
    revoke(2).await;
    there.tenants.look().await.unwrap();
    assert!(!let_in(1).await, "others' failures hold nobody up");
    assert!(!let_in(2).await, "nor does one's own");
    assert!(!bound_anew());

    // Nothing changes any more, and what could not be taken in is.
    fs::write(&file, bytes).unwrap();
    until("it is tried again", async || {
        there.tenants.look().await.unwrap();
        bound_anew()
    })
    .await;
    assert!(!let_in(2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_revoked_while_another_tenant_is_being_bound_ends_meanwhile() {
    let installation = Installation::new().await;
    let acme = installation.tenant("acme").await;
    let globex = installation.tenant("globex").await;
    let (credential, id) = key(&globex).await;
    let slow = installation.slow_agents(16).await;
    let there = installation.process().await;
    assert!(there.lets_in(globex.id(), &credential).await);
    let live = || there.tenants.by_id(acme.id()).unwrap();
    let before = live();
    apply(&acme, &slow).await;
    let meanwhile = async {
        let runtime = &there.platform.runtime;
        until("it is asked", async || runtime.describing().calls() == 1).await;
        assert!(globex.revoke_key(&id, 1).await.unwrap());
        until("the key ends", async || {
            !there.lets_in(globex.id(), &credential).await
        })
        .await;
        // A token and a budget too, also where the authenticator has read the newer keys by itself, for a key that is not there.
        let token = TokenRecord {
            id: TokenId::new(),
            parent: None,
            principal: "alice".to_owned(),
            key: None,
            agent: None,
            session: None,
            created_ms: 0,
            expires_ms: i64::MAX,
            revoked_ms: None,
        };
        globex.create_token(&token, None).await.unwrap();
        assert!(globex.revoke_token(token.id, 1).await.unwrap());
        let unknown =
            "amb_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert!(!there.lets_in(globex.id(), unknown).await);
        let budget = Budget {
            scope: BudgetScope::tenant(),
            period: Period::Day,
            limit: Money::ZERO,
        };
        globex.set_budget(&budget).await.unwrap();
        let other = there.tenants.by_id(globex.id()).unwrap();
        until("the token ends and the budget holds", async || {
            other.revoked.load().contains(token.id) && other.budgeted.any()
        })
        .await;
        assert!(Arc::ptr_eq(&before, &live()), "it is being bound yet");
    };
    tokio::select! {
        () = there.tenants.follow() => {}
        () = meanwhile => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_does_not_describe_itself_holds_up_nobody() {
    let installation = Installation::new().await;
    let acme = installation.tenant("acme").await;
    let globex = installation.tenant("globex").await;
    let host = installation.process().await;
    let slow = installation.slow_agents(4).await;
    apply(&acme, &slow).await;

    let runtime = &host.platform.runtime;
    let ended = AtomicBool::new(false);
    let reload = async {
        host.tenants.reload(acme.id()).await.unwrap();
        ended.store(true, Ordering::SeqCst);
    };
    let meanwhile = async {
        until("it is asked", async || runtime.describing().calls() == 1).await;
        host.tenants.reload(globex.id()).await.unwrap();
        assert!(!ended.load(Ordering::SeqCst), "it is being bound yet");
        assert_eq!(runtime.host_tenant().calls(), 0);
    };
    futures::join!(reload, meanwhile);
    let problems = |host: &support::Host| {
        let tenant = host.tenants.by_id(acme.id()).unwrap();
        tenant
            .problems
            .iter()
            .map(|problem| problem.what.clone())
            .collect::<Vec<_>>()
    };
    let names = [
        "agent slow-0",
        "agent slow-1",
        "agent slow-2",
        "agent slow-3",
    ];
    assert_eq!(problems(&host), names);

    // Once is enough: it costs no other tenant that moment again.
    for n in 0..8 {
        let other = installation.tenant(&format!("other-{n}")).await;
        apply(&other, &slow).await;
    }
    let began = Instant::now();
    host.tenants.reload_all().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.tenants.all().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_one_name_are_a_problem_that_is_told() {
    let installation = Installation::new().await;
    let acme = installation.tenant("acme").await;
    for slot in [
        "agent/test:benign",
        "tool/test:panicker",
        "tool/test:sleeper",
    ] {
        let (kind, name) = slot.split_once("/test:").unwrap();
        let binding = installation.binding(slot, kind, name).await;
        acme.bind_slot(&binding).await.unwrap();
    }
    let definition = json!({
        "name": "both", "component": "test:benign", "model": "openai/any", "tools": ["test:sleeper", "test:panicker"],
    });
    acme.apply_agent(&"both".parse().unwrap(), &definition)
        .await
        .unwrap();
    let host = installation.process().await;
    let tenant = host.tenants.by_id(acme.id()).unwrap();
    let [problem] = tenant.problems.as_slice() else {
        panic!("{:?}", tenant.problems)
    };
    assert_eq!(problem.what, "agent both");
    assert_eq!(
        problem.why,
        "tool `misbehave` of test:panicker is hidden by that of test:sleeper"
    );
    assert_eq!(
        tenant.agents.len(),
        1,
        "and the agent serves with the other"
    );
}
