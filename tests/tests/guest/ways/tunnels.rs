//! Tunnels with checksums, and from one family to the other.

use anyhow::{Result, ensure};
use lab::nginx::Nginx;

use super::{agree, direct, scene, service, web};

#[test]
fn tunnels_carry_their_checksums_and_packets_of_either_family() -> Result<()> {
    let scene = scene()?;
    let _nginx = Nginx::start(&scene.rs1)?;
    // Checksums are made at once, not left to a network card, and those of packets from the client too:
    // what arrives is as good as the kernel made it.
    scene.lb1.run("ethtool -K eth0 tx off")?;
    // A GRE device takes only packets with a good checksum where it wants one.
    scene.rs1.sh("ip link del gre1
         ip link add gre1 type gre local 10.77.0.21 icsum
         ip link add gre6 type ip6gre local fd77::21 icsum
         ip link add sit1 type sit local 10.77.0.21
         for port in 6083 6084; do ip fou add port $port gue; ip -6 fou add port $port gue; done
         for i in gre1 gre6 sit1; do
             ip link set $i up; sysctl -q -w net.ipv4.conf.$i.rp_filter=0
         done")?;
    let plain = "{ type = \"gue\", port = 6080 }";
    let full = "{ type = \"gue\", port = 6083, checksum = \"full\" }";
    let remote = "{ type = \"gue\", port = 6084, checksum = \"remote\" }";
    let gre = "{ type = \"gre\", checksum = \"full\" }";
    let (v4, v6) = ("10.77.0.21", "fd77::21");
    // Within a family, then between them.
    let ways = [
        ("10.77.1.50", v4, plain),
        ("10.77.1.51", v4, full),
        ("10.77.1.52", v4, remote),
        ("10.77.1.53", v4, gre),
        ("[fd77:1::50]", v6, full),
        ("[fd77:1::51]", v6, gre),
        ("[fd77:1::54]", v4, "{ type = \"ipip\" }"),
        ("[fd77:1::55]", v4, remote),
        ("[fd77:1::56]", v4, gre),
        ("10.77.1.57", v6, "{ type = \"ipip\" }"),
        ("10.77.1.58", v6, full),
        ("10.77.1.59", v6, gre),
    ];
    let tunnel = |(address, real, tunnel): (&str, &str, &str)| {
        let keys = format!("address = \"{address}:80\"\nforwarding = \"tun\"\ntunnel = {tunnel}");
        let name = format!("to-{address}").replace(['[', ']', ':'], "-");
        service(&name, &keys, &[&format!("address = \"{real}\"")])
    };
    let text = ways.map(tunnel).concat();
    let mut capture = scene
        .rs1
        .capture("src host 10.77.0.11 or src host fd77::11")?;
    let lb1 = direct(&scene.lb1, &text)?;
    for (address, _, _) in ways {
        let client = if address.contains(':') {
            "fd78::100"
        } else {
            "10.78.0.100"
        };
        let found = web(&scene.client, address)?;
        ensure!(found == format!("rs1 {client} 80"), "{address}: {found}");
    }

    // GUE's first word is its version and length, what it carries, and the flag of private options;
    // of those, remote checksum is the first bit.
    for (filter, good) in [
        ("udp dst port 6080 and udp[8:4] = 0x00040000", "[no cksum]"),
        (
            "udp dst port 6083 and udp[8:4] = 0x00040000",
            "[udp sum ok]",
        ),
        (
            "ip6 and udp dst port 6083 and ip6[48:4] = 0x00290000",
            "[udp sum ok]",
        ),
        (
            "ip6 and udp dst port 6083 and ip6[48:4] = 0x00040000",
            "[udp sum ok]",
        ),
        (
            "udp dst port 6084 and udp[8:4] = 0x02040001 and udp[12:4] = 0x80000000",
            "",
        ),
        (
            "udp dst port 6084 and udp[8:4] = 0x02290001 and udp[12:4] = 0x80000000",
            "",
        ),
        ("ip proto 47 and ip[20:4] = 0x80000800", "checksum present"),
        ("ip proto 47 and ip[20:4] = 0x800086dd", "checksum present"),
        (
            "ip6 proto 47 and ip6[40:4] = 0x80000800",
            "checksum present",
        ),
        (
            "ip6 proto 47 and ip6[40:4] = 0x800086dd",
            "checksum present",
        ),
        ("ip proto 41", " > fd77:1::54.80: "),
        ("ip6 proto 4", " > 10.77.1.57.80: "),
    ] {
        let packets = capture.reread(filter)?;
        let right = packets.iter().all(|packet| packet.contains(good));
        ensure!(right && packets.len() >= 4, "{filter}: {packets:#?}");
    }
    let other = capture.reread("udp and not (udp dst port 6080 or 6083 or 6084)")?;
    ensure!(other.is_empty(), "{other:#?}");
    agree(
        &lb1,
        &[
            "-a -t 10.77.1.50:80 -r 10.77.0.21:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
            "-a -t 10.77.1.51:80 -r 10.77.0.21:80 -i -w 1 --tun-type gue --tun-port 6083 --tun-csum",
            "-a -t 10.77.1.52:80 -r 10.77.0.21:80 -i -w 1 --tun-type gue --tun-port 6084 --tun-remcsum",
            "-a -t 10.77.1.53:80 -r 10.77.0.21:80 -i -w 1 --tun-type gre --tun-csum",
            "-a -t [fd77:1::54]:80 -r 10.77.0.21:80 -i -w 1 --tun-type ipip",
            "-a -t [fd77:1::55]:80 -r 10.77.0.21:80 -i -w 1 --tun-type gue --tun-port 6084 --tun-remcsum",
            "-a -t [fd77:1::56]:80 -r 10.77.0.21:80 -i -w 1 --tun-type gre --tun-csum",
            "-a -t 10.77.1.57:80 -r [fd77::21]:80 -i -w 1 --tun-type ipip",
            "-a -t 10.77.1.58:80 -r [fd77::21]:80 -i -w 1 --tun-type gue --tun-port 6083 --tun-csum",
            "-a -t 10.77.1.59:80 -r [fd77::21]:80 -i -w 1 --tun-type gre --tun-csum",
        ],
    )
}
