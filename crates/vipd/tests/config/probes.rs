//! Checks of type dns, udp, ping, script and agent: what their keys become.

use health::program::Program;
use health::{AgentSpec, Beginning, CheckKind, DnsRecord, DnsSpec, UdpSpec};

use super::parse;

#[test]
fn each_key_of_a_check_ends_in_its_value() {
    let root = DnsSpec {
        name: ".".into(),
        record: DnsRecord::Soa,
        expect: None,
        tcp: false,
    };
    let dns = |dns: DnsSpec| (CheckKind::Dns(dns), 80);
    check("type = 'dns'", dns(root.clone()));
    check(
        "type = 'dns', name = 'WWW.example.org.', record = 'aaaa', expect = '2001:DB8:0::1', tcp = true",
        dns(DnsSpec {
            name: "WWW.example.org".into(),
            record: DnsRecord::Aaaa,
            expect: Some("2001:db8::1".into()),
            tcp: true,
        }),
    );
    for record in DnsRecord::ALL {
        let asked = DnsSpec {
            record,
            ..root.clone()
        };
        check(
            &format!("type = 'dns', record = '{}'", record.key()),
            dns(asked),
        );
    }

    let udp = |send: &[u8], expect: Option<&[Option<u8>]>| {
        let spec = UdpSpec {
            send: send.to_vec(),
            expect: expect.map(|bytes| Beginning(bytes.to_vec())),
        };
        (CheckKind::Udp(spec), 80)
    };
    check("type = 'udp'", udp(b"", None));
    check(
        r#"type = "udp", send = "a\n", expect = "b""#,
        udp(b"a\n", Some(&[Some(b'b')])),
    );
    check(
        "type = 'udp', send_hex = '00ff 1A', expect_hex = '80 xx XX 01'",
        udp(&[0, 255, 26], Some(&[Some(128), None, None, Some(1)])),
    );

    check("type = 'ping'", (CheckKind::Ping, 0));

    let script = |user: &str| {
        let program = Program {
            command: vec!["/usr/bin/true".into(), "a b".into()],
            user: user.into(),
        };
        (CheckKind::Script(program), 80)
    };
    check(
        "type = 'script', command = ['/usr/bin/true', 'a b']",
        script("nobody"),
    );
    check(
        "type = 'script', command = ['/usr/bin/true', 'a b'], user = 'root'",
        script("root"),
    );

    let agent = |send: &str| {
        let send = send.into();
        (CheckKind::Agent(AgentSpec { send }), 9999)
    };
    check("type = 'agent', port = 9999", agent(""));
    check(
        r#"type = "agent", port = 9999, send = "web\n""#,
        agent("web\n"),
    );
}

#[test]
fn pings_and_scripts_need_no_port() {
    let config = parse(
        "[[virtual_server]]\nname = 'a'\nfwmark = 1\nchecks = [{ type = 'ping' }, \
         { type = 'script', command = ['/usr/bin/true'] }]\n\
         [[virtual_server.real_server]]\naddress = '10.0.0.21'",
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let checks = &config.virtual_servers[0].real_servers[0].checks;
    let words: Vec<String> = checks.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        ["ping 10.0.0.21", "script /usr/bin/true for 10.0.0.21"]
    );
}

/// The kind and the port of the check of a real server 10.0.0.21:80 that has these keys.
fn check(written: &str, expected: (CheckKind, u16)) {
    let config = parse(&format!(
        "[[virtual_server]]\nname = 'a'\naddress = '192.0.2.1:80'\n\
         [[virtual_server.real_server]]\naddress = '10.0.0.21'\ncheck = {{ {written} }}"
    ));
    let config = config.unwrap_or_else(|problems| panic!("{written}: {problems}"));
    let checks = &config.virtual_servers[0].real_servers[0].checks;
    assert_eq!(checks.len(), 1);
    assert_eq!((checks[0].kind.clone(), checks[0].target.port()), expected);
}
