//! The checks of a real server.

use health::{CheckKind, CheckSpec, Flap, HttpSpec, HttpVersion, Route, Start};

use super::Risk;
use super::words::{Notes, Shown};

pub(super) fn compare(notes: &mut Notes, old: &[CheckSpec], new: &[CheckSpec]) {
    let kinds = |checks: &[CheckSpec]| -> Vec<String> {
        checks
            .iter()
            .map(|check| check.kind.name().to_owned())
            .collect()
    };
    let (before, after) = (kinds(old), kinds(new));
    if before != after {
        let note = Some("the new ones begin with the verdict of the old ones");
        notes.key_with(Risk::None, "check", &before, &after, note);
        return;
    }
    for (before, after) in old.iter().zip(new) {
        check(notes, before, after);
    }
}

fn check(notes: &mut Notes, before: &CheckSpec, after: &CheckSpec) {
    let CheckSpec {
        target,
        route,
        kind,
        interval,
        fast_interval,
        down_interval,
        timeout,
        rise,
        fall,
        start,
        flap,
    } = before;
    let name = |key: &str| format!("{key} of the {} check", before.kind.name());
    notes.key(Risk::None, &name("target"), target, &after.target);
    routes(notes, &name, route, &after.route);
    notes.key(Risk::None, &name("interval"), interval, &after.interval);
    let fast = (fast_interval, &after.fast_interval);
    notes.key(Risk::None, &name("fast_interval"), fast.0, fast.1);
    let down = (down_interval, &after.down_interval);
    notes.key(Risk::None, &name("down_interval"), down.0, down.1);
    notes.key(Risk::None, &name("timeout"), timeout, &after.timeout);
    notes.key(Risk::None, &name("rise"), rise, &after.rise);
    notes.key(Risk::None, &name("fall"), fall, &after.fall);
    notes.key(Risk::None, &name("start"), start, &after.start);
    notes.key(Risk::None, &name("flap"), flap, &after.flap);
    if let (CheckKind::Http(before), CheckKind::Http(after)) = (kind, &after.kind) {
        http(notes, before, after);
    } else {
        notes.other(
            Risk::None,
            &name("request or expectation"),
            kind,
            &after.kind,
        );
    }
}

fn routes(notes: &mut Notes, name: &dyn Fn(&str) -> String, old: &Route, new: &Route) {
    let Route {
        source,
        interface,
        mark,
        through,
    } = old;
    notes.key(Risk::None, &name("source"), source, &new.source);
    notes.key(Risk::None, &name("interface"), interface, &new.interface);
    let marks = (mark.map(u32::from), new.mark.map(u32::from));
    notes.key(Risk::None, &name("firewall mark"), &marks.0, &marks.1);
    notes.key(Risk::None, &name("way through"), through, &new.through);
}

/// Headers may carry passwords, so that their values are not shown.
fn http(notes: &mut Notes, before: &HttpSpec, after: &HttpSpec) {
    let HttpSpec {
        method,
        path,
        host,
        headers,
        status,
        version,
        body_contains,
        body_regex,
        body_sha256,
        tls,
    } = before;
    let name = |key: &str| format!("{key} of the http check");
    notes.key(Risk::None, &name("method"), method, &after.method);
    notes.key(Risk::None, &name("path"), path, &after.path);
    notes.key(Risk::None, &name("host"), host, &after.host);
    notes.other(Risk::None, &name("headers"), headers, &after.headers);
    let codes = |ranges: &[(u16, u16)]| -> Vec<std::ops::RangeInclusive<u16>> {
        ranges.iter().map(|(first, last)| *first..=*last).collect()
    };
    notes.key(
        Risk::None,
        &name("status"),
        &codes(status),
        &codes(&after.status),
    );
    notes.key(Risk::None, &name("version"), version, &after.version);
    let contains = (body_contains, &after.body_contains);
    notes.key(Risk::None, &name("body_contains"), contains.0, contains.1);
    notes.other(
        Risk::None,
        &name("body_regex"),
        body_regex,
        &after.body_regex,
    );
    notes.other(
        Risk::None,
        &name("body_sha256"),
        body_sha256,
        &after.body_sha256,
    );
    notes.other(Risk::None, &name("tls"), tls, &after.tls);
}

impl Shown for Start {
    fn shown(&self) -> String {
        match self {
            Start::Down => "down",
            Start::Up => "up",
        }
        .to_owned()
    }
}

impl Shown for HttpVersion {
    fn shown(&self) -> String {
        match self {
            HttpVersion::Http1 => "1.1",
            HttpVersion::Http2 => "2",
        }
        .to_owned()
    }
}

impl Shown for Box<Flap> {
    fn shown(&self) -> String {
        let Flap {
            count,
            within,
            stable,
        } = **self;
        format!("{count} in {}, stable {}", within.shown(), stable.shown())
    }
}
