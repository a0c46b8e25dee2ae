//! Whatever the text is: nothing panics, and the result is TOML.

use proptest::prelude::*;
use vipd::config::import::Format;

use super::of;

const WHOLE: [&str; 6] = [
    include_str!("golden/keepalived-pair.in"),
    include_str!("golden/keepalived-everything.in"),
    include_str!("golden/keepalived-templates.in"),
    include_str!("golden/ipvsadm-table.in"),
    include_str!("golden/ldirectord-web.in"),
    include_str!("golden/ldirectord-everything.in"),
];
const FORMATS: [Format; 3] = [Format::Keepalived, Format::Ipvsadm, Format::Ldirectord];

fn survives(text: &str) {
    for format in FORMATS {
        let imported = of(format, text);
        let read: Result<toml::Table, _> = toml::from_str(&imported.toml);
        assert!(read.is_ok(), "{read:?}\n{}", imported.toml);
        let _ = imported.check();
        let all = imported.warnings.iter().chain(&imported.problems);
        assert!(all.into_iter().all(|list| !list.to_string().is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_survived(text in "[ -~\n\t\u{e9}{}$@~\"'\\\\#!=]{0,300}") {
        survives(&text);
    }

    #[test]
    fn a_good_file_with_something_wrong_in_it_is_survived(
        which in 0..WHOLE.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[ -~\n{}\"\u{e9}]{0,8}"), 1..6),
    ) {
        let mut text: Vec<char> = WHOLE[which].chars().collect();
        for (at, length, instead) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, instead.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn words_in_any_order_are_survived(words in prop::collection::vec(any::<prop::sample::Index>(), 0..120)) {
        let known: Vec<&str> = WHOLE.iter().flat_map(|text| text.split(' ')).collect();
        let text: Vec<&str> = words.iter().map(|index| *index.get(&known)).collect();
        survives(&text.join(" "));
    }
}

#[test]
fn definitions_that_contain_themselves_come_to_an_end() {
    for text in [
        "$A=$A\n$A\n",
        "$A=${B}${B}\n$B=${A}${A}\n$A\n",
        "$A= \\\n $A \\\n $A\n$A\n",
        "include test.conf\n",
        &"x { ".repeat(5000),
        &"${".repeat(5000),
        &"$A=1 \\\n".repeat(5000),
    ] {
        survives(text);
    }
    let mut bomb = String::from("$A0=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");
    for level in 1..40 {
        bomb.push_str(&format!("$A{level}=${{A{0}}}${{A{0}}}\n", level - 1));
    }
    bomb.push_str("${A39}\n");
    survives(&bomb);
}
