//! Certificates, made by openssl.

use std::path::Path;
use std::process::Command;

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// What `openssl ca` must have, which alone can set both dates.
const CONFIG: &str = "[ca]\ndefault_ca=own\n[own]\nnew_certs_dir=.\ndatabase=index\nrand_serial=yes
default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub(crate) enum Validity {
    /// For two days.
    Now,
    /// In January 2020.
    Past,
}

/// `server.pem` for web.test, signed with its own key.
pub(crate) fn self_signed(dir: &Path, constraints: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 {KEY} -keyout server.key -out server.pem -days 2 -subj /CN=web.test \
             -addext subjectAltName=DNS:web.test -addext basicConstraints={constraints}"
        ),
    );
}

/// `ca.pem`, and `server.pem` for the names, signed by it.
pub(crate) fn signed(dir: &Path, names: &str, validity: Validity) {
    authority(dir);
    issue(dir, "server", names, validity);
}

/// `ca.pem`, whose name is ca.
pub(crate) fn authority(dir: &Path) {
    openssl(
        dir,
        &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"),
    );
}

/// `{who}.pem` and `{who}.key` for the names, signed by the authority of the directory.
pub(crate) fn issue(dir: &Path, who: &str, names: &str, validity: Validity) {
    openssl(
        dir,
        &format!("req {KEY} -keyout {who}.key -out {who}.csr -subj /CN={who}"),
    );
    std::fs::write(dir.join("names"), format!("subjectAltName={names}")).unwrap();
    let with = "-extfile names";
    let issue = match validity {
        Validity::Now => format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 {with} \
             -out {who}.pem"
        ),
        Validity::Past => {
            std::fs::write(dir.join("ca.conf"), CONFIG).unwrap();
            std::fs::write(dir.join("index"), "").unwrap();
            format!(
                "ca -batch -notext -config ca.conf -in {who}.csr -cert ca.pem -keyfile ca.key \
                 -startdate 20200101000000Z -enddate 20200201000000Z {with} -out {who}.pem"
            )
        }
    };
    openssl(dir, &issue);
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("these tests need openssl");
    assert!(output.status.success(), "{output:?}");
}
