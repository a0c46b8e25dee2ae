//! The checkers of a real server.

use super::super::document::{Item, Keys};
use super::super::server::{self, Check};
use super::block::Node;
use super::command;
use super::context::Context;
use super::lost;
use super::pace::Pace;

/// What a checker takes from what stands around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) pace: Pace,
    pub(super) virtualhost: Option<&'a str>,
    /// The real server's port, where only its checks can have it.
    pub(super) port: Option<u16>,
}

/// Reads a checker; `None`: it is none.
pub(super) fn read(node: &Node, around: Around<'_>, cx: &mut Context<'_>) -> Option<Vec<Check>> {
    let kind = match node.keyword() {
        "TCP_CHECK" => "tcp",
        "HTTP_GET" | "SSL_GET" => "http",
        "SMTP_CHECK" => "smtp",
        "DNS_CHECK" => "dns",
        "UDP_CHECK" => "udp",
        "PING_CHECK" => "ping",
        "MISC_CHECK" => "script",
        _ => return None,
    };
    let mut own = Pace::default();
    let mut target = Keys::default();
    let mut rest = Vec::new();
    for line in &node.children {
        if !own.read(line, cx) && !target_key(line, &mut target, cx) {
            rest.push(line);
        }
    }
    if let Some(port) = around.port
        && !matches!(kind, "ping" | "script")
        && !target.has("port")
    {
        target.set("port", port);
    }
    let mut check = own.within(around.pace).check(kind, node.keyword());
    let checks = match kind {
        "http" => http(node, &rest, around.virtualhost, &check, cx),
        "script" => script(node, &rest, &mut check, cx).then_some(vec![check])?,
        _ => {
            for line in rest {
                let known = match kind {
                    "smtp" => smtp(line, &mut check.own, cx),
                    "dns" => dns(line, &mut check.own, cx),
                    "udp" => matches!(
                        line.keyword(),
                        "payload" | "require_reply" | "min_reply_length" | "max_reply_length"
                    ),
                    _ => false,
                };
                if !known {
                    lost::report(line, &lost::CHECK, node.keyword(), cx);
                }
            }
            if kind == "udp" {
                udp(node, &mut check.own, cx);
            }
            vec![check]
        }
    };
    let with_target = |mut check: Check| {
        check.own.extend(&target);
        check
    };
    Some(checks.into_iter().map(with_target).collect())
}

/// Where the check goes and comes from.
fn target_key(line: &Node, keys: &mut Keys, cx: &mut Context<'_>) -> bool {
    let key = match line.keyword() {
        "connect_ip" => "address",
        "bindto" => "source",
        "bind_if" => "interface",
        "connect_port" => {
            if let Some(port) = cx.number(line, 1..=u16::MAX) {
                keys.set("port", port);
            }
            return true;
        }
        "fwmark" => {
            if let Some(mark) = cx.number(line, 1..=u32::MAX) {
                keys.set("fwmark", mark);
            }
            return true;
        }
        _ => return false,
    };
    if let Some(value) = cx.text(line) {
        keys.set(key, value);
    }
    true
}

/// One check for each URL.
fn http(
    node: &Node,
    rest: &[&Node],
    virtualhost: Option<&str>,
    check: &Check,
    cx: &mut Context<'_>,
) -> Vec<Check> {
    let mut virtualhost = virtualhost.map(str::to_owned);
    let mut tls = Keys::default();
    if node.keyword() == "SSL_GET" {
        tls.set("tls", true);
        // keepalived looks at no certificate.
        tls.set("verify", false);
    }
    for line in rest {
        match line.keyword() {
            "url" => {}
            "virtualhost" => virtualhost = cx.text(line),
            // What vipd sends where there is a name.
            "enable_sni" => {}
            "sni_name" => tls.maybe("sni", cx.text(line)),
            "tls_compliant" => {
                cx.idle(
                    line,
                    "vipd takes an end without notice as an end",
                    "nothing is to be done",
                );
            }
            _ => lost::report(line, &lost::CHECK, node.keyword(), cx),
        }
    }
    let urls = rest.iter().copied();
    let mut urls: Vec<&Node> = urls.filter(|line| line.keyword() == "url").collect();
    let empty = Node::default();
    if urls.is_empty() {
        cx.lost(node, "has no url", "the result asks for /");
        urls.push(&empty);
    }
    let checks = urls.into_iter().map(|url| {
        let mut keys = Keys::default();
        keys.set_unless(
            "path",
            url_text(url, "path", cx).unwrap_or("/".to_owned()),
            &"/".to_owned(),
        );
        let host = url_text(url, "virtualhost", cx).or_else(|| virtualhost.clone());
        keys.maybe("host", host);
        status(url, &mut keys, cx);
        body(url, &mut keys, cx);
        keys.extend(&tls);
        Check {
            own: keys,
            ..check.clone()
        }
    });
    checks.collect()
}

fn url_text(url: &Node, keyword: &str, cx: &mut Context<'_>) -> Option<String> {
    let line = url.last(keyword)?;
    cx.text(line)
}

fn status(url: &Node, keys: &mut Keys, cx: &mut Context<'_>) {
    let words = url.all("status_code").flat_map(Node::args);
    let codes: Vec<&str> = words.map(|word| word.text.as_str()).collect();
    match codes.as_slice() {
        [] => {}
        ["200-299"] => {}
        [one] => match one.parse::<u16>() {
            Ok(code) => keys.set("status", code),
            Err(_) => keys.set("status", *one),
        },
        more => keys.set("status", more.join(",")),
    }
    let known = [
        "path",
        "virtualhost",
        "status_code",
        "digest",
        "regex",
        "regex_no_match",
        "regex_options",
        "regex_stack",
        "regex_min_offset",
        "regex_max_offset",
        "tls_compliant",
    ];
    let unknown = url
        .children
        .iter()
        .filter(|line| !known.contains(&line.keyword()));
    for line in unknown {
        lost::report(line, &[], "url", cx);
    }
}

/// What is asked of the body.
fn body(url: &Node, keys: &mut Keys, cx: &mut Context<'_>) {
    if let Some(line) = url.last("digest") {
        let message = "vipd compares no MD5";
        let help = "write body_sha256 = \"...\", as `curl -s URL | sha256sum` prints it";
        cx.lost(line, message, help);
    }
    for keyword in ["regex_min_offset", "regex_max_offset"] {
        if let Some(line) = url.last(keyword) {
            let message = "vipd looks through the whole body";
            cx.lost(line, message, "write more into the pattern");
        }
    }
    if let Some(line) = url.last("regex_stack") {
        let message = "vipd's patterns need no stack";
        cx.idle(line, message, "nothing is to be done");
    }
    let Some(line) = url.last("regex") else {
        return;
    };
    if let Some(negated) = url.last("regex_no_match") {
        let message = "no check of vipd wants that a pattern does not match";
        cx.lost(
            negated,
            message,
            "the pattern is left out; let the page say by its status how it is",
        );
        return;
    }
    let Some(pattern) = line
        .args()
        .first()
        .map(|word| super::lexer::plain(&word.raw))
    else {
        cx.text(line);
        return;
    };
    let mut letters = String::new();
    for option in url.all("regex_options").flat_map(Node::args) {
        match option.text.as_str() {
            "caseless" => letters.push('i'),
            "multiline" => letters.push('m'),
            "dotall" => letters.push('s'),
            "extended" => letters.push('x'),
            "ungreedy" => letters.push('U'),
            // Of the machine, not of what matches.
            "no_auto_possess" | "no_start_optimize" | "no_auto_capture" | "never_utf"
            | "never_ucp" | "utf" | "ucp" | "use_offset_limit" | "dupnames" => {}
            other => {
                let message = format!("vipd's patterns have no option {other:?}");
                cx.notes.lost(
                    &option.place,
                    &line.path,
                    message,
                    "it is left out of the result",
                );
            }
        }
    }
    let flags = if letters.is_empty() {
        String::new()
    } else {
        format!("(?{letters})")
    };
    keys.set("body_regex", format!("{flags}{pattern}"));
}

fn smtp(line: &Node, keys: &mut Keys, cx: &mut Context<'_>) -> bool {
    match line.keyword() {
        "helo_name" => {
            if let Some(name) = cx.text(line) {
                keys.set("helo", name);
            }
            true
        }
        "host" if line.block => {
            let message = "an old way to name what is connected to";
            cx.lost(
                line,
                message,
                "write connect_ip and connect_port without the block",
            );
            true
        }
        _ => false,
    }
}

fn dns(line: &Node, keys: &mut Keys, cx: &mut Context<'_>) -> bool {
    match line.keyword() {
        "name" => {
            if let Some(name) = cx.text(line) {
                keys.set_unless("name", name, &".".to_owned());
            }
        }
        "type" => {
            if let Some(record) = cx.text(line) {
                keys.set_unless("record", record.to_ascii_lowercase(), &"soa".to_owned());
            }
        }
        _ => return false,
    }
    true
}

fn udp(node: &Node, keys: &mut Keys, cx: &mut Context<'_>) {
    let hex_of = |line: &Node| {
        let words = line.args().iter().map(|word| word.text.as_str());
        hex(words.flat_map(str::split_whitespace))
    };
    let payload = node.last("payload").map(|line| (line, hex_of(line)));
    let reply = node.last("require_reply").map(|line| (line, hex_of(line)));
    for (line, bytes) in payload.iter().chain(&reply) {
        if bytes.is_none() {
            let message = "is not hexadecimal, or has an x for half a byte";
            cx.lost(line, message, "write both halves, or xx");
        }
    }
    for keyword in ["min_reply_length", "max_reply_length"] {
        if let Some(line) = node.last(keyword) {
            let message = "vipd does not measure replies";
            cx.lost(line, message, "write what the reply begins with");
        }
    }
    match (payload, reply) {
        (None, None) => {}
        (Some((line, _)), None) => {
            let message = "vipd wants a reply to what it sends";
            let help = "the result sends an empty datagram, and silence passes";
            cx.lost(line, message, help);
        }
        (payload, Some((_, reply))) => {
            let send = payload.and_then(|(_, bytes)| bytes);
            // keepalived sends anything.
            let send = send.filter(|bytes| !bytes.is_empty());
            keys.set("send_hex", send.unwrap_or_else(|| "00".to_owned()));
            if let Some(reply) = reply.filter(|bytes| !bytes.is_empty()) {
                keys.set("expect_hex", reply);
            }
        }
    }
}

/// `Ab12f 3` is `ab 12 0f 03`; `None`: not hexadecimal, or an `x` for half a byte.
fn hex<'w>(words: impl Iterator<Item = &'w str>) -> Option<String> {
    let mut bytes = Vec::new();
    for word in words {
        let digits: Vec<char> = word.to_ascii_lowercase().chars().collect();
        for pair in digits.chunks(2) {
            match *pair {
                ['x', 'x'] => bytes.push("xx".to_owned()),
                [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    bytes.push(format!("{high}{low}"));
                }
                [low] if low.is_ascii_hexdigit() => bytes.push(format!("0{low}")),
                _ => return None,
            }
        }
    }
    Some(bytes.join(" "))
}

/// `MISC_CHECK`; `false`: it runs nothing.
fn script(node: &Node, rest: &[&Node], check: &mut Check, cx: &mut Context<'_>) -> bool {
    let (mut command, mut user, mut dynamic) = (None, None, false);
    for line in rest {
        match line.keyword() {
            "misc_path" => {
                command = command::words(line, cx);
                lost::extra(line, 1, cx);
            }
            "misc_timeout" => check.timeout = cx.seconds(line).unwrap_or(check.timeout),
            "misc_dynamic" => dynamic = cx.boolean(line),
            "user" => {
                user = cx.text(line);
                command::group(line, line.arg(0).unwrap_or_default(), line.arg(1), cx);
            }
            _ => lost::report(line, &lost::CHECK, "MISC_CHECK", cx),
        }
    }
    let Some(command) = command else {
        cx.lost(node, "runs nothing", "add `misc_path`");
        return false;
    };
    let command = if dynamic {
        command
    } else {
        check.comment = Some(server::FAILURES);
        server::failing_with_one(&command)
    };
    check.own.set("command", Item::texts(command));
    let user = user.unwrap_or_else(|| command::default_user(node, cx));
    check.own.set_unless("user", user.as_str(), &"nobody");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_byte_at_the_end_of_a_word_is_a_byte() {
        let read = |text: &str| hex(text.split_whitespace());
        assert_eq!(read("Ab12f 3 456").as_deref(), Some("ab 12 0f 03 45 06"));
        assert_eq!(read("ff XX").as_deref(), Some("ff xx"));
        assert_eq!(read("ff 1x"), None);
        assert_eq!(read("zz"), None);
    }
}
