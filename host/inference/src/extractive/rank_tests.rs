use super::*;

fn passages(texts: &[&str]) -> Vec<Passage> {
    let passage = |(text, number): (&&str, u32)| Passage {
        number,
        title: String::new(),
        anchor: String::new(),
        text: (*text).to_owned(),
    };
    texts.iter().zip(7..).map(passage).collect()
}

#[test]
fn rare_words_of_the_question_decide() {
    let texts = [
        "Components are small. Every component is a component. A component has a manifest.",
        "The journal is hash-chained. Components write no journal.",
    ];
    let chosen = choose(
        "How is the journal of components chained?",
        &passages(&texts),
    );
    assert_eq!(
        chosen,
        [Chosen {
            passage: 8,
            text: "The journal is hash-chained.".into()
        }]
    );
}

#[test]
fn what_asks_the_question_does_not_answer_it() {
    let texts = [
        "ask http://x/ -d '{\"content\": \"How deep may badgers dig?\"}'\n\nBadgers answer.",
        "Setts may be four metres deep. A badger digs with its claws.",
    ];
    let chosen = choose("How deep may badgers dig?", &passages(&texts));
    assert_eq!(chosen.first().map(|c| c.passage), Some(8), "{chosen:?}");
    assert!(chosen.iter().all(|c| !c.text.contains("content")));
    // A search is no question: what holds all of it is wanted.
    let chosen = choose("badgers answer", &passages(&texts));
    assert_eq!(chosen[0].text, "Badgers answer.");
}

#[test]
fn the_passage_that_holds_the_question_comes_before_a_sentence_that_repeats_some_of_it() {
    let texts = [
        "Four layers decide what a tool may do.\n\n1. The author asks.\n2. The tenant narrows. Nothing adds.\n\nThis is its permission.",
        "Tools have permissions.",
    ];
    let chosen = choose(
        "How are the permissions of a tool narrowed?",
        &passages(&texts),
    );
    let texts: Vec<_> = chosen.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(
        texts[..3],
        [
            "Four layers decide what a tool may do.",
            "The tenant narrows. Nothing adds.",
            "This is its permission.",
        ]
    );
}

#[test]
fn a_sentence_is_quoted_once_and_in_reading_order() {
    let texts = [
        "Limits are per call. Limits of memory and time are in the manifest.",
        "Limits are per call.",
    ];
    let chosen = choose("Which limits of memory has a call?", &passages(&texts));
    let texts: Vec<_> = chosen
        .iter()
        .map(|c| (c.passage, c.text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (7, "Limits are per call."),
            (7, "Limits of memory and time are in the manifest.")
        ]
    );
}
