//! No key or password is in anything that is said of a file.

use vipd::config::{Concealed, Problems};

use super::parse;

const SECRET: &str = "zQ7wK9xJ4vT2bN8mR6pL3sD5";
const FORMS: [&str; 12] = [
    "authentication = { type = 'pass', key = 'SECRET' }",
    "authentication = { type = 'hmac', key_id = 1, key = \"SECRET\" }",
    "authentication = { type = 'hmac', key_id = 1, key = 'hex:SECRET', window = '0s' }",
    "authentication = { type = 'hmac', key_id = 300, key = '''\nSECRET''' }",
    "authentication = { type = 'none', kye = 'SECRET', mode = 'x' }",
    "authentication = { type = 'hmac', key_id = 1, key = 'x', keys = [{ id = 0, key = 'SECRET' }, 'SECRET'] }",
    "authentication = 'SECRET'",
    "authentication = ['SECRET']",
    "athentication = { type = 'pass', key = 'SECRET' }",
    "auth_pass = 'SECRET'",
    "authentication.key = 'SECRET'",
    "password = 'SECRET'",
];

#[test]
fn no_report_shows_a_secret() {
    for form in FORMS {
        let source = with(form);
        let problems = parse(&source).unwrap_err();
        silent(&problems, &source);
    }
}

#[test]
fn a_problem_of_another_key_does_not_show_the_secret_beside_it() {
    let source = format!(
        "vrrp = [{{ name = 'a', vrid = 300, authentication = {{ type = 'pass', key = '{SECRET}' }} }}]"
    );
    let problems = parse(&source).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("vrid = 300"), "{text}");
    assert!(text.contains("key = '************************'"), "{text}");
    silent(&problems, &source);
}

#[test]
fn a_comment_behind_a_secret_is_not_shown() {
    let source = with(&format!(
        "authentication = {{ type = 'ah', key = 'x' }} # it was {SECRET}"
    ));
    silent(&parse(&source).unwrap_err(), &source);
}

#[test]
fn a_number_in_the_place_of_a_secret_is_none_the_less_one() {
    let source = with("authentication = { type = 'pass', key = 7310582946 }");
    let problems = parse(&source).unwrap_err();
    assert!(!format!("{problems} {problems:?}").contains("7310582946"));
}

#[test]
fn the_path_of_a_secret_is_none() {
    let source = with("authentication = { type = 'pass', key = 'file:/nonexistent/key' }");
    let text = parse(&source).unwrap_err().to_string();
    assert!(text.contains("key = 'file:/nonexistent/key'"), "{text}");
}

#[test]
fn no_slip_of_the_pen_shows_a_secret() {
    // A list that loses what stands before it is the header of a table, and its name is shown.
    let forms = FORMS
        .iter()
        .filter(|form| form.starts_with("authentication") && !form.contains("= ['"));
    for form in forms {
        let whole = with(form);
        let begin = whole.find(form).unwrap();
        for at in begin..begin + form.len() {
            let missing = format!("{}{}", &whole[..at], &whole[at + 1..]);
            let added = ["'", "\"", "=", "]", "}", "\n", "#", " ", "x"]
                .map(|extra| format!("{}{extra}{}", &whole[..at], &whole[at..]));
            for source in added.into_iter().chain([missing]) {
                let source = source.replace("SECRET", SECRET);
                if let Err(problems) = parse(&source) {
                    silent(&problems, &source);
                }
            }
        }
    }
}

#[test]
fn an_unquoted_secret_is_not_shown() {
    for line in [
        format!("authentication = {{ type = pass, key = {SECRET} }}"),
        format!("authentication = {{\n type = 'pass',\n key = {SECRET},\n}}"),
        format!("[vrrp.authentication]\ntype = 'pass'\nkey = {SECRET}"),
        format!("[vrrp.authentication]\ntype = 'pass'\nkey {SECRET}"),
    ] {
        let source = with(&line);
        silent(&parse(&source).unwrap_err(), &source);
    }
}

#[test]
fn what_leaves_the_host_has_no_secret_of_any_key_that_takes_one() {
    let lines = [
        "[[vrrp]]\nauthentication = { type = 'pass', key = 'SECRET' }",
        "[[vrrp]]\nauthentication = { type = 'hmac', keys = [{ id = 1, key = 'SECRET' }] }",
        "[[virtual_server]]\ncheck = { type = 'http', headers = { X-Any = 'SECRET' } }",
        "[[virtual_server]]\ncheck = { type = 'http', path = '/health?token=SECRET' }",
        "[[virtual_server]]\nreal_server = [{ checks = [{ type = 'udp', send = 'SECRET' }] }]",
        "[[virtual_server]]\ncheck = { type = 'udp', expect = 'SECRET' }",
        "[[virtual_server]]\ncheck = { type = 'script', command = ['/bin/a', '-p', 'SECRET'] }",
        "[[notify]]\nwebhook = 'https://user:SECRET@example.com/'",
        "[[notify]]\nwebhook = 'https://example.com/SECRET'\nheaders = { Authorization = 'SECRET' }",
        "[[notify]]\nheaders = { Authorization = 'SECRET' }\nthis is no TOML",
    ];
    for line in lines {
        let source = line.replace("SECRET", SECRET);
        let concealed = Concealed::of(&source);
        assert!(
            !concealed.source.contains(&SECRET[..10]),
            "{}",
            concealed.source
        );
        assert_eq!(concealed.source.len(), source.len());
    }
    let concealed = Concealed::of(&lines[3].replace("SECRET", SECRET));
    let mut text = format!("GET /health?token={SECRET} failed");
    concealed.hide(&mut text);
    assert_eq!(text, "GET /health?*** failed");
    // What is no secret stays.
    let plain =
        "[[vrrp]]\nname = 'web'\ninterface = 'eth0'\nvirtual_addresses = ['192.0.2.1/24']\n";
    assert_eq!(Concealed::of(plain).source, plain);
}

fn with(line: &str) -> String {
    format!(
        "[[vrrp]]\nname = 'web'\ninterface = 'eth0'\nvrid = 0\nvirtual_addresses = ['192.0.2.1']\n{line}\n\
         priority = 300\n[global]\nname = ''\n"
    )
}

/// Neither the secret nor a good part of it is there.
fn silent(problems: &Problems, source: &str) {
    for text in [
        problems.to_string(),
        problems.render(true),
        format!("{problems:?}"),
    ] {
        for part in [&SECRET[..10], &SECRET[7..17], &SECRET[14..]] {
            assert!(!text.contains(part), "{part} of\n{source}\nis in\n{text}");
        }
    }
}
