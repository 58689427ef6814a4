//! A decision with 64 rules, and the check of a token that was verified before: no allocation, at most a microsecond (design §8).

#![allow(
    unsafe_code,
    reason = "counting allocations needs an allocator, and an allocator is unsafe"
)]

use ambit_policy::{
    Ambit, Permissions,
    token::{
        Claims, Delegation, MAX_ANCESTORS, Place, Revocations, Signer, Token, VerifiedTokens,
        Verifier,
    },
};
use ambit_types::{SessionId, TenantId, TokenId};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt::Write as _,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};
use url::Url;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every method hands its arguments on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// 64 rules of which the last one matches.
fn rules() -> Arc<Permissions> {
    let mut text = String::from("models = [");
    (0..63).for_each(|n| write!(text, "\"provider-{n}/*\", ").unwrap());
    text.push_str("\"openai/gpt-*\"]\n");
    for n in 0..63 {
        let host = if n % 2 == 0 {
            format!("*.service-{n}.example")
        } else {
            format!("api-{n}.example")
        };
        write!(
            text,
            "[[http]]\norigin = \"https://{host}\"\nmethods = [\"GET\", \"POST\"]\npath = \"/v1\"\n"
        )
        .unwrap();
    }
    text.push_str(
        "[[http]]\norigin = \"https://*.wikipedia.org\"\nmethods = [\"GET\"]\npath = \"/wiki\"\n",
    );
    Arc::new(Permissions::parse(&text).unwrap())
}

/// The fastest of many rounds: what the code costs, not what else the machine did meanwhile.
fn fastest(mut decide: impl FnMut()) -> Duration {
    const DECISIONS: u32 = 500;
    let round = |_| {
        let start = Instant::now();
        (0..DECISIONS).for_each(|_| decide());
        start.elapsed() / DECISIONS
    };
    (0..200).map(round).min().unwrap()
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "the number is the point; `--nocapture` shows it"
)]
fn a_decision_is_cheap() {
    let rules = rules();
    let one = Ambit::new(
        Arc::new(
            Permissions::parse(
                "models = [\"*\"]\nhttp = [{ origin = \"https://*\", methods = [\"GET\"] }]",
            )
            .unwrap(),
        ),
        rules.clone(),
    );
    let four = Ambit::new(rules.clone(), rules.clone())
        .narrowed_by_tenant(Some(rules.clone()))
        .narrowed_by_token(Some(rules));
    let url = Url::parse("https://en.wikipedia.org/wiki/WebAssembly?action=raw").unwrap();

    let before = ALLOCATIONS.get();
    for ambit in [&one, &four] {
        assert!(black_box(ambit).http("GET", black_box(&url)).is_ok());
        assert!(
            black_box(ambit)
                .model("openai", black_box("gpt-4o"))
                .is_ok()
        );
    }
    assert_eq!(
        ALLOCATIONS.get() - before,
        0,
        "allocations of four decisions"
    );

    let http = fastest(|| drop(black_box(black_box(&one).http("GET", black_box(&url)))));
    let http_four = fastest(|| drop(black_box(black_box(&four).http("GET", black_box(&url)))));
    let model = fastest(|| {
        drop(black_box(
            black_box(&one).model("openai", black_box("gpt-4o")),
        ))
    });
    let [http_ns, model_ns, four_ns] = [http, model, http_four].map(|time| time.as_nanos());
    println!(
        "64 rules: http {http_ns} ns, model {model_ns} ns; four layers of 64: http {four_ns} ns"
    );
    assert!(http <= Duration::from_micros(1), "{http:?}");
    assert!(model <= Duration::from_micros(1), "{model:?}");
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "the number is the point; `--nocapture` shows it"
)]
fn the_check_of_a_token_is_cheap() {
    const NOW: u64 = 1_795_000_000;
    const REVOKED: usize = 10_000;
    let (tenant, session) = (TenantId::new(), SessionId::new());
    let mut claims = Claims::new("ambit", tenant, "key:1", TokenId::new(), NOW, NOW + 3600);
    claims.session = Some(session);
    claims.agent = Some("assistant".parse().unwrap());
    let root = Token::issue(claims).unwrap();
    // As deep as a token may be, and narrowed each time.
    let token = (0..MAX_ANCESTORS).fold(root, |parent, _| {
        let request = Delegation {
            grants: vec![rules()],
            ..Delegation::new(TokenId::new())
        };
        parent.delegate(request, NOW).unwrap()
    });
    let revoked: Revocations = std::iter::repeat_with(|| (TokenId::new(), NOW + 60))
        .take(REVOKED)
        .collect();
    let here = Place {
        tenant,
        session: Some(session),
        agent: Some("assistant"),
    };
    let check = || black_box(&token).check(black_box(NOW), black_box(here), black_box(&revoked));

    let before = ALLOCATIONS.get();
    assert_eq!(check(), Ok(()));
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of a check");

    let time = fastest(|| assert_eq!(check(), Ok(())));
    println!(
        "a token {MAX_ANCESTORS} delegations deep, {REVOKED} revoked: {} ns",
        time.as_nanos()
    );
    assert!(time <= Duration::from_micros(1), "{time:?}");

    // Finding a text that was verified before is for the door, once a request: shown, not held to the bar of a check.
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let text = signer
        .sign(
            &Token::issue(Claims::new(
                "ambit",
                tenant,
                "key:1",
                TokenId::new(),
                NOW,
                NOW + 60,
            ))
            .unwrap(),
        )
        .unwrap();
    let verified = VerifiedTokens::new(Verifier::new("ambit", [signer.public_key().clone()]));
    let verify = || assert!(verified.verify(black_box(&text), NOW, &revoked).is_ok());
    println!(
        "a text of {} bytes, verified before: {} ns",
        text.len(),
        fastest(verify).as_nanos()
    );

    // Its layers are shared with the ambit, not copied, and a decision over them costs what each layer costs.
    let ambit = Ambit::new(rules(), rules()).narrowed_by_token(token.layers.iter().cloned());
    let url = Url::parse("https://en.wikipedia.org/wiki/WebAssembly").unwrap();
    let before = ALLOCATIONS.get();
    assert!(black_box(&ambit).http("GET", black_box(&url)).is_ok());
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of a decision");
}
