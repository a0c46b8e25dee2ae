//! What the kernel refuses, and how that is told.

use std::collections::BTreeMap;
use std::time::Duration;

use ipvs::{
    Change, Destination, Forwarding, Persistence, Refused, Service, Tunnel, TunnelChecksum,
};

use crate::{direct, in_namespace, numbered, pool, server, tcp};

#[test]
fn a_refusal_amid_a_batch_is_that_of_its_own_object_and_the_others_are_made() {
    in_namespace(|client| {
        let key = tcp("10.0.0.1:80");
        let absent = tcp("10.0.0.9:80");
        let mut changes = vec![Change::AddService(key, pool("rr", &[]).service)];
        let hosts = 1..600_u32;
        changes.extend(hosts.map(|host| Change::AddDestination(key, numbered(host), direct(1))));
        let refused = [
            (100, Change::AddDestination(key, numbered(1), direct(1)), 17),
            (
                255,
                Change::AddDestination(absent, numbered(1), direct(1)),
                3,
            ),
            (
                256,
                Change::SetDestination(key, numbered(9999), direct(1)),
                2,
            ),
            (599, Change::AddService(absent, pool("foo", &[]).service), 2),
        ];
        for (at, change, _) in &refused {
            changes[*at] = change.clone();
        }
        let results = client.apply(&changes);
        assert_eq!(results.len(), 600);
        let errors: BTreeMap<usize, &Refused> = results
            .iter()
            .enumerate()
            .filter_map(|(at, r)| Some((at, r.as_ref().err()?)))
            .collect();
        let found: Vec<_> = errors
            .iter()
            .map(|(at, r)| (*at, (*r.change).clone(), r.errno))
            .collect();
        assert_eq!(found, refused);
        let words: Vec<String> = errors.values().map(|refused| refused.to_string()).collect();
        assert_eq!(
            words,
            [
                "add real server 172.16.0.1:80 to tcp 10.0.0.1:80, weight 1, dr: \
                 the real server is in the service already",
                "add real server 172.16.0.1:80 to tcp 10.0.0.9:80, weight 1, dr: \
                 there is no such service",
                "change real server 172.16.39.15:80 of tcp 10.0.0.1:80 to weight 1, dr: \
                 there is no such real server in the service",
                "add service tcp 10.0.0.9:80, scheduler foo: \
                 the kernel has no scheduler `foo` (module ip_vs_foo)",
            ]
        );
        let dump = client.dump().unwrap();
        assert_eq!(dump.table.keys().collect::<Vec<_>>(), [&key]);
        assert_eq!(dump.table[&key].destinations.len(), 599 - 4);
    });
}

#[test]
fn refusals_say_what_is_wrong_in_the_words_of_ipvs() {
    in_namespace(|client| {
        let key = tcp("10.0.0.1:80");
        let at = server("10.0.0.21:80");
        let service = pool("rr", &[]).service;
        assert_eq!(
            client.apply(&[Change::AddService(key, service.clone())]),
            [Ok(())]
        );
        let gue = Forwarding::Tunnel(Tunnel::Gue {
            port: 0,
            checksum: TunnelChecksum::None,
        });
        let engine = Persistence {
            timeout: Duration::from_secs(60),
            prefix_length: 32,
            engine: Some("bar".to_owned()),
        };
        let with_engine = Service {
            persistence: Some(engine),
            ..service.clone()
        };
        let other = tcp("10.0.0.2:80");
        let too_heavy = direct(u32::MAX);
        let only_lower = Destination {
            lower_threshold: 5,
            ..direct(1)
        };
        let without_port = Destination {
            forwarding: gue,
            ..direct(1)
        };
        for (change, errno, words) in [
            (
                Change::AddService(key, service.clone()),
                17,
                "the service is there already",
            ),
            (
                Change::SetService(other, service.clone()),
                3,
                "no such service",
            ),
            (Change::RemoveService(other), 3, "no such service"),
            (
                Change::SetService(key, pool("foo", &[]).service),
                2,
                "no scheduler `foo`",
            ),
            (
                Change::AddService(other, with_engine),
                2,
                "no persistence engine `bar`",
            ),
            (Change::RemoveDestination(key, at), 2, "no such real server"),
            (
                Change::AddDestination(key, at, too_heavy),
                34,
                "at most 2147483647",
            ),
            (
                Change::AddDestination(key, at, only_lower),
                34,
                "lower threshold",
            ),
            (
                Change::AddDestination(key, at, without_port),
                22,
                "GUE needs a port",
            ),
            (
                Change::AddDestination(key, server("224.0.0.1:80"), direct(1)),
                22,
                "one host",
            ),
            (
                Change::AddDestination(key, server("[2001:db8::1]:80"), direct(1)),
                22,
                "tunnel only",
            ),
        ] {
            let refused = client
                .apply(std::slice::from_ref(&change))
                .remove(0)
                .unwrap_err();
            assert_eq!(refused.errno, errno, "{refused}");
            assert!(refused.to_string().contains(words), "{refused}");
        }
    });
}
