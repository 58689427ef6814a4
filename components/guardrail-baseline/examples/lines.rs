use guardrail_baseline::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let stage = if a[1] == "in" {
        Stage::Input
    } else {
        Stage::Retrieved
    };
    let p = Policy::new(
        stage,
        vec![Rule {
            category: "pii".into(),
            action: Action::Flag,
        }],
    );
    let t = String::from_utf8_lossy(&std::fs::read(&a[2]).unwrap()).into_owned();
    let (mut n, mut h) = (0, 0);
    let sep = if a[3] == "para" { "\n\n" } else { "\n" };
    for l in t.split(sep).filter(|l| !l.trim().is_empty()) {
        let o = check(&p, stage, l, true, &[]).unwrap();
        let f: Vec<_> = o
            .findings
            .iter()
            .filter(|f| a.len() <= 5 || f.category.starts_with(&a[5]))
            .collect();
        n += 1;
        let hit = !f.is_empty();
        h += hit as usize;
        if hit == (a[4] == "hit") {
            println!(
                "  {} {}",
                l.chars().take(200).collect::<String>().replace('\n', " "),
                if hit {
                    format!(
                        "{:?} {:?}",
                        f[0].category,
                        &l[f[0].start as usize..f[0].end as usize]
                    )
                } else {
                    String::new()
                }
            );
        }
    }
    println!("{h} of {n}");
}
