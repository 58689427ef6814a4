//! HTML as people write it, and what is left to read.

use proptest::prelude::*;
use std::time::{Duration, Instant};
use tool_web_fetch::readable;
use url::Url;

fn base() -> Url {
    Url::parse("https://a.example/dir/page").unwrap()
}

fn check(html: &str, text: &str) {
    assert_eq!(readable(html, &base()).text, text, "{html}");
}

#[test]
fn structure_becomes_text() {
    check(
        "<h1>One</h1><h2> Two\n x</h2><p>a<br>b</p><h6>s</h6>",
        "# One\n\n## Two x\n\na\nb\n\n#### s",
    );
    check("<ul><li>a<li>b <b>c</b></ul><p>end", "- a\n- b c\n\nend");
    check(
        "<table><tr><th>k<th>v<tr><td>1</td><td>2</td></table>",
        "k | v\n\n1 | 2",
    );
    check(
        "<p>x</p><pre>  fn a() {\n    b\n  }\n</pre>y",
        "x\n\n  fn a() {\n    b\n  }\n\ny",
    );
    check(
        "a &amp; b &lt;c&gt; &eacute;&#8364;&#x41; &copy &notanentity;",
        "a & b <c> é€A © ¬anentity;",
    );
    check(
        "one <img src=x alt='a chart'> two<img src=y>",
        "one [image: a chart] two",
    );
    check("  <div> <span>a</span>  <span>b</span> </div> ", "a b");
    check("", "");
}

#[test]
fn what_nobody_sees_is_left_out() {
    for html in [
        "<p>a</p><script>document.write('<p>evil</p>')</script>",
        "<style>p { content: '</p>evil' }</style><p>a",
        "<p>a</p><!-- evil -->",
        "<p>a</p><p hidden>evil</p>",
        "<p>a</p><div style='Display: None'><p>evil<div>evil</div></p></div>",
        "<p>a</p><span aria-hidden=true>evil</span>",
        "<p>a</p><noscript>evil</noscript><template><p>evil</template><svg><text>evil</svg>",
        "<nav><ul><li>evil</ul></nav><p>a</p><footer>evil</footer><aside>evil</aside>",
        "<p>a</p><input hidden><textarea>evil</textarea><button>evil</button>",
        "<p>a</p><script>evil",
    ] {
        check(html, "a");
    }
    // A page that is nothing else is shown all the same, and one that hides its body until scripts ran.
    check("<nav>only this</nav>", "only this");
    check("<body style='visibility: hidden'><p>a", "a");
}

#[test]
fn the_main_part_is_preferred_when_there_is_one() {
    let long = "word ".repeat(60);
    check(
        &format!("<p>menu</p><main><h1>T</h1><p>{long}</p></main><p>ads</p>"),
        &format!("# T\n\n{}", long.trim()),
    );
    check("<p>menu</p><main>short</main>", "menu\n\nshort");
}

#[test]
fn title_and_links() {
    let page = readable(
        "<title> A\n title </title><svg><title>no</title></svg><p><a href='../x?q=1#f'>up</a> <a href=mailto:a@b>mail</a> \
         <a href='../x?q=1#f'>again</a> <a href=javascript:x()>js</a> <a href='https://b.example'></a> <a href='//c.example/'>c\n d</a>",
        &base(),
    );
    assert_eq!(page.title, "A title");
    let links: Vec<_> = page
        .links
        .iter()
        .map(|(text, url)| (text.as_str(), url.as_str()))
        .collect();
    assert_eq!(
        links,
        [
            ("up", "https://a.example/x?q=1#f"),
            ("c d", "https://c.example/")
        ]
    );
    let many: String = (0..1000).map(|n| format!("<a href=/{n}>x</a>")).collect();
    assert_eq!(readable(&many, &base()).links.len(), 30);
}

#[test]
fn hostile_pages_cost_linear_time() {
    for piece in [
        "<div>",
        "<div hidden>",
        "</div>",
        "<a href=x>",
        "<b",
        "&amp",
        "<!--",
        "<p hidden><p>",
        "<script>",
        "<pre>",
        "<td>",
        "<br><td>",
        "<a href='/",
    ] {
        let html = piece.repeat((1 << 20) / piece.len());
        let started = Instant::now();
        let page = readable(&html, &base());
        // Debug-free builds take tens of milliseconds; quadratic ones minutes.
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{piece}: {:?}",
            started.elapsed()
        );
        assert!(page.text.len() <= html.len() * 3);
    }
}

proptest! {
    #[test]
    fn anything_is_read_without_harm(html in "(<[a-z]{1,6}( hidden| href=x)?/?>|</[a-z]{1,6}>|[ -~äß\u{0}\n]{0,5}){0,60}") {
        let page = readable(&html, &base());
        prop_assert!(page.links.len() <= 30);
        prop_assert!(!page.text.starts_with('\n'));
    }
}
