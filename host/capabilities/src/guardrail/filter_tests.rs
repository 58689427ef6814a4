use super::*;

fn mask(start: u64, end: u64) -> Mask {
    Mask {
        start,
        end,
        replacement: "[x]".to_owned(),
    }
}

fn finding(start: u64, end: u64) -> Finding {
    Finding {
        start,
        end,
        category: "pii/email".to_owned(),
        severity: Severity::Medium,
    }
}

fn release(through: u64, masks: &[Mask]) -> Outcome {
    Outcome {
        release_through: through,
        masks: masks.to_vec(),
        ..Outcome::default()
    }
}

/// Feeds `pieces` with what the component says of each (the last one is final); the texts released, or why not.
#[track_caller]
fn check(pieces: Vec<(&str, Outcome)>, expected: &[&str]) {
    let mut filter = Filter::new(16);
    let n_pieces = pieces.len();
    let mut released = Vec::new();
    for (at, (piece, outcome)) in pieces.into_iter().enumerate() {
        released.push(match filter.judge(piece, at + 1 == n_pieces, outcome) {
            Ok(Judged {
                rejection: Some(rejection),
                text,
                ..
            }) => format!("{text} rejected: {}", rejection.category),
            Ok(judged) => judged.text,
            Err(failure) => failure
                .to_string()
                .replace("the component broke its contract: ", "broken: "),
        });
    }
    assert_eq!(released, expected);
}

#[test]
fn releases_what_was_judged_with_masks_applied() {
    check(vec![("hello", release(5, &[]))], &["hello"]);
    check(
        vec![("a@b.c is me", release(11, &[mask(0, 5)]))],
        &["[x] is me"],
    );
    check(
        vec![
            ("ab", release(1, &[])),
            ("cd", release(2, &[])),
            ("", release(4, &[])),
        ],
        &["a", "b", "cd"],
    );
    check(
        vec![
            ("me: a@b", release(4, &[mask(4, 7)])),
            (".c!", release(10, &[mask(4, 9)])),
        ],
        &["me: ", "[x]!"], // the mask grew while it was held
    );
    check(
        vec![("aXbYc", release(5, &[mask(1, 2), mask(3, 4)]))],
        &["a[x]b[x]c"],
    );
    check(
        vec![("XY", release(2, &[mask(0, 1), mask(1, 2)]))],
        &["[x][x]"],
    );
    check(vec![("äöü", release(6, &[mask(2, 4)]))], &["ä[x]ü"]);
    check(vec![("", release(0, &[]))], &[""]);
}

#[test]
fn a_broken_judge_releases_nothing() {
    let range = "broken: it releases backwards, past the end or inside a character";
    check(vec![("abc", release(4, &[]))], &[range]);
    check(vec![("ä", release(1, &[]))], &[range]);
    check(
        vec![("abc", release(2, &[])), ("d", release(1, &[]))],
        &["ab", range],
    );
    check(vec![("abc", release(u64::MAX, &[]))], &[range]);
    check(
        vec![("abc", release(2, &[]))],
        &["broken: it holds text back although nothing follows"],
    );

    let order = "broken: masks are out of order, empty or inside a character";
    check(
        vec![("abcd", release(4, &[mask(2, 3), mask(0, 1)]))],
        &[order],
    );
    check(
        vec![("abcd", release(4, &[mask(0, 3), mask(2, 4)]))],
        &[order],
    );
    check(vec![("abcd", release(4, &[mask(1, 1)]))], &[order]);
    check(vec![("aä", release(3, &[mask(1, 2)]))], &[order]);
    check(
        vec![("abcd", release(4, &[mask(2, 5)]))],
        &["broken: a mask lies outside the text that is left"],
    );
    check(
        vec![("abcd", release(2, &[])), ("", release(4, &[mask(1, 3)]))],
        &["ab", "broken: a mask lies outside the text that is left"],
    );
    check(
        vec![("abcd", release(2, &[mask(1, 3)])), ("", release(4, &[]))],
        &["broken: it releases the beginning of a mask", "abcd"],
    );
}

#[test]
fn sizes_are_capped() {
    let long = Mask {
        replacement: "x".repeat(257),
        ..mask(0, 1)
    };
    check(
        vec![("a", release(1, &[long]))],
        &["broken: a mask's replacement is longer than 256 bytes"],
    );
    let state = Outcome {
        state: vec![0; STATE_CAP + 1],
        ..release(1, &[])
    };
    check(
        vec![("a", state)],
        &["broken: its state is longer than 64 KiB"],
    );
    check(
        vec![
            ("0123456789abcdef", release(0, &[])),
            ("g", release(0, &[])),
            ("", release(17, &[])),
        ],
        &["", " rejected: held-too-long", "0123456789abcdefg"],
    );
}

/// A mask hides text; a component that answered a kilobyte for each byte would have the provider be sent it.
#[test]
fn masks_write_little_more_than_they_hide() {
    let each = |text: &str, replacement: &str| {
        let masks: Vec<_> = (0..text.len() as u64)
            .map(|at| Mask {
                replacement: replacement.to_owned(),
                ..mask(at, at + 1)
            })
            .collect();
        release(text.len() as u64, &masks)
    };
    let text = "x".repeat(2048);
    let four = "[x][".repeat(2048);
    check(vec![(&text, each(&text, "[x]["))], &[&four]);
    let too_much = [" rejected: masked-too-long"];
    check(vec![(&text, each(&text, "[xxxxx]"))], &too_much);
    // A marker for each of a few short things is not much.
    let marker = "[removed by the data protection policy of Example Ltd., see intranet]";
    let few = "x".repeat(50);
    check(vec![(&few, each(&few, marker))], &[&marker.repeat(50)]);
    // In pieces as in one: what was written before counts.
    let mut filter = Filter::new(16);
    let rejected = (0..2048_u64).any(|at| {
        let mask = Mask {
            replacement: "[xxxxx]".to_owned(),
            ..mask(at, at + 1)
        };
        let judged = filter.judge("x", false, release(at + 1, &[mask])).unwrap();
        judged.rejection.is_some()
    });
    assert!(rejected);
}

#[test]
fn a_rejection_releases_nothing_even_if_asked_to() {
    let rejection = Some(Rejection {
        category: "prompt-injection".to_owned(),
        severity: Severity::High,
    });
    check(
        vec![(
            "abc",
            Outcome {
                rejection,
                ..release(3, &[])
            },
        )],
        &[" rejected: prompt-injection"],
    );
    let nameless = Some(Rejection {
        category: "Prompt Injection\n".to_owned(),
        severity: Severity::High,
    });
    check(
        vec![(
            "abc",
            Outcome {
                rejection: nameless,
                ..release(3, &[])
            },
        )],
        &["broken: a category is not a short lower-case name"],
    );
}

#[test]
fn findings_lie_in_the_text() {
    let with = |findings: &[Finding]| Outcome {
        findings: findings.to_vec(),
        ..release(3, &[])
    };
    check(
        vec![("abc", with(&[finding(0, 3), finding(1, 2)]))],
        &["abc"],
    );
    check(
        vec![("abc", with(&[])), ("", with(&[finding(0, 3)]))],
        &["abc", ""],
    ); // reported after its text was released
    let misplaced = "broken: a finding is empty, past the end or inside a character";
    check(vec![("abc", with(&[finding(2, 2)]))], &[misplaced]);
    check(vec![("abc", with(&[finding(2, 4)]))], &[misplaced]);
    check(vec![("aä", with(&[finding(2, 3)]))], &[misplaced]);
}

/// Whatever a judge says, no byte leaves before it was judged, twice, or out of order.
#[test]
fn released_texts_are_a_prefix_whatever_the_judge_says() {
    let text = "a1b2c3d4e5";
    for seed in 0_u64..2_000 {
        let mut filter = Filter::new(usize::MAX);
        let (mut given, mut out, mut random) = (
            0,
            String::new(),
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        );
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        while given < text.len() {
            let end = (given + 1 + usize::try_from(next(4)).unwrap()).min(text.len());
            let through = next(text.len() as u64 + 2);
            match filter.judge(&text[given..end], false, release(through, &[])) {
                Ok(judged) => out.push_str(&judged.text),
                Err(_) => break,
            }
            given = end;
            assert!(text[..given].starts_with(&out), "{out}");
        }
    }
}
