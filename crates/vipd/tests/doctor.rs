//! docs/doctor.md has a section for each code, and for no other; and for each code there is a test that
//! makes the fault, sees the code, and does what the remedy says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use vipd::config::lint::NAMES;
use vipd::doctor::catalogue::ALL;

/// A code, the file below `tests/tests` and the test there that makes its fault; or the shell script of
/// `cargo xtask packages`, for what needs systemd, and the function there.
const CASES: &[(&str, &str, &str)] = &[
    (
        "VIP-ARP-001",
        "doctor/addresses.rs",
        "a_real_server_that_answers_for_the_address_is_named_and_silenced",
    ),
    (
        "VIP-ARP-002",
        "doctor/addresses.rs",
        "an_address_that_a_dead_director_left_behind_is_found_and_released",
    ),
    (
        "VIP-ARP-003",
        "doctor/addresses.rs",
        "a_stranger_with_the_address_is_found_until_it_gives_it_up",
    ),
    (
        "VIP-ARP-004",
        "../../crates/xtask/src/packages/trial.sh",
        "without_any_director_nobody_holds_the_address",
    ),
    (
        "VIP-VRRP-001",
        "doctor/adverts.rs",
        "a_director_deaf_by_a_rule_is_told_the_rule_and_its_peer_two_masters",
    ),
    (
        "VIP-VRRP-002",
        "doctor/adverts.rs",
        "a_director_of_another_version_is_found_with_the_key_that_unites_them",
    ),
    (
        "VIP-VRRP-003",
        "doctor/adverts.rs",
        "another_cluster_with_the_same_vrid_is_found_and_a_free_one_named",
    ),
    (
        "VIP-VRRP-004",
        "doctor/adverts.rs",
        "a_keepalived_beside_the_daemon_is_found_and_stopped",
    ),
    (
        "VIP-VRRP-005",
        "doctor/adverts.rs",
        "a_switch_that_eats_adverts_is_found_by_what_the_peer_says",
    ),
    (
        "VIP-VRRP-006",
        "doctor/host.rs",
        "a_fault_is_told_with_what_ends_it",
    ),
    (
        "VIP-FW-001",
        "doctor/adverts.rs",
        "a_policy_that_drops_adverts_is_mended_by_a_rule_that_accepts_them",
    ),
    (
        "VIP-FW-002",
        "doctor/adverts.rs",
        "adverts_that_cannot_leave_are_found_with_the_rule",
    ),
    (
        "VIP-FW-003",
        "doctor/adverts.rs",
        "clients_that_a_rule_turns_away_are_found",
    ),
    (
        "VIP-RS-001",
        "guest/doctor.rs",
        "a_real_server_that_is_off_the_network_is_taken_out_by_the_remedy_until_it_is_back",
    ),
    (
        "VIP-DR-001",
        "guest/doctor/services.rs",
        "direct_routing_over_a_gateway_becomes_a_tunnel_by_the_remedy",
    ),
    (
        "VIP-DR-002",
        "doctor/real_servers.rs",
        "a_real_server_without_the_virtual_address_gets_it_by_the_remedy",
    ),
    (
        "VIP-TUN-001",
        "guest/doctor.rs",
        "a_tunnel_is_healthy_and_one_that_is_missing_is_made_by_the_remedy",
    ),
    (
        "VIP-TUN-002",
        "doctor/real_servers.rs",
        "a_tunnel_that_is_narrower_than_the_clients_network_is_widened",
    ),
    (
        "VIP-NAT-001",
        "guest/doctor.rs",
        "nat_is_healthy_and_a_real_server_with_another_gateway_is_found",
    ),
    (
        "VIP-NAT-002",
        "doctor/host.rs",
        "nat_without_forwarding_and_with_redirects_is_mended_by_two_sysctls",
    ),
    (
        "VIP-NAT-003",
        "doctor/host.rs",
        "nat_without_forwarding_and_with_redirects_is_mended_by_two_sysctls",
    ),
    (
        "VIP-NET-001",
        "doctor/host.rs",
        "packets_that_the_reverse_path_filter_drops_are_found_while_they_come",
    ),
    (
        "VIP-NET-002",
        "doctor/host.rs",
        "a_file_of_networkd_that_has_the_address_is_named_with_its_line",
    ),
    (
        "VIP-NET-003",
        "doctor/host.rs",
        "a_director_that_may_not_answer_arp_is_found_by_itself_and_its_peer",
    ),
    (
        "VIP-CTL-001",
        "doctor/hang.rs",
        "a_stopped_daemon_is_said_to_be_and_goes_on_by_the_remedy",
    ),
    (
        "VIP-CT-001",
        "doctor/host.rs",
        "a_full_table_of_tracked_connections_is_enlarged",
    ),
    (
        "VIP-IPVS-001",
        "alone/main.rs",
        "a_kernel_that_loads_no_module_by_itself_gets_them_by_the_remedy",
    ),
    (
        "VIP-IPVS-002",
        "guest/doctor.rs",
        "a_scheduler_that_the_kernel_lacks_and_sysctls_of_others_are_found",
    ),
    (
        "VIP-IPVS-003",
        "alone/main.rs",
        "a_connection_table_with_long_lists_is_enlarged_by_the_lines_of_the_remedy",
    ),
    (
        "VIP-IPVS-004",
        "guest/doctor/services.rs",
        "a_real_server_that_the_kernel_refuses_is_told_until_its_key_is_mended",
    ),
    (
        "VIP-SYS-001",
        "guest/doctor.rs",
        "a_scheduler_that_the_kernel_lacks_and_sysctls_of_others_are_found",
    ),
    (
        "VIP-LIM-001",
        "doctor/host.rs",
        "a_daemon_that_runs_out_of_descriptors_gets_more",
    ),
    (
        "VIP-CHK-001",
        "guest/doctor.rs",
        "checks_that_all_fail_from_here_are_one_finding",
    ),
    (
        "VIP-CHK-002",
        "guest/doctor/services.rs",
        "a_certificate_that_ends_soon_is_found_until_it_is_renewed",
    ),
    (
        "VIP-PEER-001",
        "doctor/host.rs",
        "directors_with_different_addresses_are_found_with_the_key",
    ),
    (
        "VIP-CLOCK-001",
        "doctor/clock.rs",
        "clocks_that_are_apart_are_found_by_signed_adverts_and_set_by_the_remedy",
    ),
    (
        "CFG-INVALID",
        "doctor/files.rs",
        "a_file_that_is_not_valid_is_told_with_each_problem",
    ),
    (
        "CFG-VIP-OUTSIDE-SUBNETS",
        "doctor/files.rs",
        "a_virtual_address_of_no_network_of_its_interface_is_warned_of",
    ),
    (
        "CFG-SECRET-READABLE",
        "doctor/files.rs",
        "a_key_that_everybody_can_read_is_warned_of_until_the_mode_is_right",
    ),
];

/// What a case calls that carries out, or insists on, what the remedy says.
const REMEDIES: [&str; 5] = [".mend(", ".command(", ".line(", "mended(", "\tmend &&"];

fn codes() -> BTreeSet<&'static str> {
    ALL.iter().map(|kind| kind.code).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_code_has_its_section_and_every_section_its_code() {
    let text = read("docs/doctor.md");
    let sections = text.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: Vec<&str> = sections.filter(|it| *it != "CFG-*").collect();
    let codes = codes();
    assert_eq!(codes.len(), ALL.len(), "two have one code");
    assert_eq!(sections.iter().copied().collect::<BTreeSet<_>>(), codes);
    assert_eq!(sections.len(), codes.len(), "two sections of one code");
    let form = |code: &&&str| {
        let words: Vec<&str> = code.split('-').collect();
        !matches!(words.as_slice(), ["VIP", _, number] if number.len() == 3)
            && **code != "CFG-INVALID"
    };
    assert_eq!(codes.iter().find(form), None);
}

#[test]
fn every_code_has_a_case_that_makes_its_fault_and_mends_it() {
    let warnings = |code: &&str| code.starts_with("CFG-") && *code != "CFG-INVALID";
    let cases: BTreeSet<&str> = CASES.iter().map(|(code, _, _)| *code).collect();
    let of_catalogue = cases.iter().filter(|code| !warnings(code)).copied();
    assert_eq!(of_catalogue.collect::<BTreeSet<_>>(), codes());
    let warned: Vec<String> = cases
        .iter()
        .filter_map(|code| code.strip_prefix("CFG-"))
        .filter(|name| *name != "INVALID")
        .map(str::to_lowercase)
        .collect();
    assert!(warned.len() >= 2 && warned.iter().all(|name| NAMES.contains(&name.as_str())));
    let mut wrong = Vec::new();
    for (code, file, test) in CASES {
        let text = read(&format!("tests/tests/{file}"));
        let script = file.ends_with(".sh");
        let begin = match script {
            true => format!("\n{test}() {{"),
            false => format!("#[test]\nfn {test}("),
        };
        let Some((_, body)) = text.split_once(&begin) else {
            wrong.push(format!("{code}: no {test} in {file}"));
            continue;
        };
        let body = body.split_once("\n}\n").map_or(body, |(body, _)| body);
        let sees = match script {
            true => body.contains(&format!("finds {code} ")) && text.matches(test).count() > 1,
            false => body.contains(&format!("\"{code}\"")),
        };
        let mends = REMEDIES.iter().any(|call| body.contains(call));
        // Of what has no command the case insists on the words.
        let insists = body.contains(".words(") || body.contains("advised(");
        if !sees || !(mends || insists || *code == "CFG-INVALID") {
            wrong.push(format!(
                "{code}: {test} does not see it, or does not mend it"
            ));
        }
    }
    assert_eq!(wrong, [""; 0]);
}
