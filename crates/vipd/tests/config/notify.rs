//! `[[notify]]` and who may reach the TCP listener.

use std::time::Duration;

use health::program::Program;
use vipd::config::{NotifyBy, Webhook};

use super::parse;

#[test]
fn every_key_of_a_notify_ends_in_its_value() {
    let config = parse(
        r#"
        [[notify]]
        name = "pager"
        events = ["vrrp.*", "quorum.lost"]
        objects = ["web", "http*"]
        command = ["/bin/true", "-x"]
        user = "root"
        timeout = "3s"
        keepalived_arguments = true
        [[notify]]
        events = ["*"]
        webhook = "https://user:pass@example.com:8443/hook?token=T"
        headers = { Authorization = "Bearer T" }
        "#,
    );
    let notify = config.unwrap().notify;
    assert_eq!(notify[0].name, "pager");
    assert_eq!(notify[0].timeout, Duration::from_secs(3));
    let NotifyBy::Command {
        program,
        keepalived_arguments,
    } = &notify[0].by
    else {
        panic!("{:?}", notify[0].by);
    };
    let wanted = Program {
        command: vec!["/bin/true".to_owned(), "-x".to_owned()],
        user: "root".to_owned(),
    };
    assert_eq!((program, *keepalived_arguments), (&wanted, true));
    assert_eq!(notify[1].name, "notify-2");
    assert_eq!(notify[1].timeout, Duration::from_secs(10));
    let webhook = Webhook {
        url: "https://user:pass@example.com:8443/hook?token=T".to_owned(),
        headers: vec![("Authorization".to_owned(), "Bearer T".to_owned())],
    };
    assert_eq!(notify[1].by, NotifyBy::Webhook(webhook));
    assert!(!format!("{:?}", notify[1]).contains("pass"));
}

#[test]
fn a_notify_is_told_of_its_events_and_objects_and_never_of_itself() {
    let config = parse(
        r#"
        [[notify]]
        events = ["vrrp.*", "real_server.down", "notify.*"]
        objects = ["web", "http"]
        command = ["/bin/true"]
        [[notify]]
        events = ["*"]
        command = ["/bin/true"]
        "#,
    );
    let notify = config.unwrap().notify;
    for (kind, object, wanted) in [
        ("vrrp.master", "web", true),
        ("vrrp.master", "inside", false),
        ("quorum.lost", "web", false),
        ("real_server.down", "http/10.0.0.1:80", true),
        ("real_server.down", "https/10.0.0.1:80", false),
        ("notify.failed", "web", false),
    ] {
        assert_eq!(notify[0].wants(kind, object), wanted, "{kind} {object}");
    }
    assert!(notify[1].wants("config.reloaded", "/etc/vipd/vipd.toml"));
    assert!(!notify[1].wants("notify.failed", "notify-1"));
}

#[test]
fn the_tcp_listener_is_on_loopback_unless_told_otherwise() {
    for address in [
        "0.0.0.0:9650",
        "[::]:9650",
        "192.0.2.1:9650",
        "[::ffff:192.0.2.1]:9650",
    ] {
        let closed = format!("[global]\nhttp = '{address}'");
        let why = parse(&closed).unwrap_err().to_string();
        assert!(why.contains("open to others than this host"), "{why}");
        assert!(why.contains("http_public = true"), "{why}");
        assert!(parse(&format!("{closed}\nhttp_public = true")).is_ok());
        assert!(parse(&format!("{closed}\nhttp_public = false")).is_err());
    }
    for address in ["127.0.0.2:9650", "[::1]:9650", "[::ffff:127.0.0.1]:9650"] {
        assert!(
            parse(&format!("[global]\nhttp = '{address}'")).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn no_problem_shows_a_webhook_or_a_header() {
    const SECRET: &str = "zQ7wK9xJ4vT2";
    for line in [
        "webhook = 'ftp://user:SECRET@example.com/'",
        "webhook = 'SECRET'",
        "webhok = 'https://example.com/SECRET'",
        "webhook = 'https://example.com/SECRET'\ntimeout = '1'",
        "webhook = 'https://example.com/'\nheaders = { X-Any = \"SECRET\\n\" }",
        "webhook = 'https://example.com/'\nheaders = 'SECRET'",
        "webhook = 'https://example.com/SECRET",
        "webhook = https://example.com/SECRET",
    ] {
        let line = line.replace("SECRET", SECRET);
        let source = format!("[[notify]]\nevents = ['*']\nname = ''\n{line}\n");
        let problems = parse(&source).unwrap_err();
        let text = format!("{problems} {problems:?}");
        assert!(!text.contains(SECRET), "{source}\n{text}");
    }
}
