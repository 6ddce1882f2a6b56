//! `trivet dev`: `trivet run` at https://localhost:8443, with a certificate by an authority of this user's own.
//!
//! The authority stays on this machine and may vouch for nothing but this machine: name constraints see to that, should
//! its key ever get out. Trusting it is the user's doing.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustix::fs::FlockOperation;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use trivet_edge::config::LogFormat;
use trivet_supervise::listen::Bind;
use trivet_supervise::plain;

use crate::config;
use crate::failure::{CONFIG, Failure, SOFTWARE};
use crate::flags::Dev;
use crate::run;

const PORT: u16 = 8443;
/// How long what runs may go on while its worker is replaced.
pub(crate) const GRACEFUL: &str = "2s";
const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3650;
/// Browsers refuse what is good for longer than 398 days.
const CERTIFICATE_DAYS: u32 = 90;
/// A certificate with less left is replaced at the start.
const LEFT: Duration = Duration::from_secs(7 * 86_400);
const NAME: &str = "Trivet development authority";
/// A request on a terminal: what came of it first, in colour.
const LINE: &str = "%(S)s %(r)s \x1b[2m%(M)s ms\x1b[0m";

/// Serves for development until told to stop, or says where the authority is.
pub(crate) fn dev(args: Dev, warnings: Vec<String>) -> Result<ExitCode, Failure> {
    let folder = folder()?;
    if args.ca {
        let (files, _) = prepare(&folder).map_err(|e| e.told(&folder))?;
        let path = format!("{}\n", files.authority.display());
        io::stdout()
            .write_all(path.as_bytes())
            .map_err(|e| Failure::new(SOFTWARE, format!("cannot write: {e}"), ""))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut flags = args.run;
    if flags.tls_cert.is_none() {
        let (files, made) = prepare(&folder).map_err(|e| e.told(&folder))?;
        if made {
            eprintln!("{}", how_to_trust(&files.authority));
        }
        flags.tls_cert = Some(files.certificate);
        flags.tls_key = Some(files.key);
    }
    if flags.bind.is_empty() {
        flags.bind.push(Bind::Tcp { host: "127.0.0.1".to_owned(), port: PORT });
    }
    flags.reload = true;
    let log = flags.access_logfile.get_or_insert_with(|| "-".into());
    let terminal = log.as_os_str() == "-" && io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !plain && flags.access_logformat == LogFormat::Combined {
        flags.access_logformat = LogFormat::Atoms(LINE.to_owned());
    }
    // Error pages and fresh templates; `--env TRIVET_DEV=` does without.
    flags.env.insert(0, ("TRIVET_DEV".to_owned(), "1".to_owned()));
    run::run(flags, warnings)
}

fn how_to_trust(authority: &Path) -> String {
    let path = authority.display();
    format!(
        "A certificate authority for this machine alone has been made: {path}\n\
         Browsers warn of https://localhost until they trust it, which is for you to decide:\n  \
         Firefox, Chromium: settings, certificates, authorities, import\n  \
         Debian, Ubuntu:    cp {path} /usr/local/share/ca-certificates/trivet.crt && update-ca-certificates\n  \
         curl:              curl --cacert {path} https://localhost:{PORT}/\n\
         `trivet dev --ca` says where it is. Keep its key to yourself."
    )
}

/// Where all of it is kept.
fn folder() -> Result<PathBuf, Failure> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = named("XDG_DATA_HOME").or_else(|| Some(named("HOME")?.join(".local/share")));
    let none = || {
        let hint = "set HOME, or XDG_DATA_HOME to a folder for it; or name certificates by `--tls-cert` and `--tls-key`";
        Failure::new(CONFIG, "there is no folder to keep certificates in", hint)
    };
    Ok(data.ok_or_else(none)?.join("trivet"))
}

#[derive(Debug)]
struct Files {
    authority: PathBuf,
    authority_key: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
enum NotMade {
    File(PathBuf, io::Error),
    Certificate(rcgen::Error),
}

impl NotMade {
    fn told(self, folder: &Path) -> Failure {
        match self {
            Self::File(path, error) => Failure::new(
                CONFIG,
                format!("cannot keep the certificates: `{}`: {}", path.display(), plain(&error)),
                format!("`{}` must be this user's own", folder.display()),
            ),
            Self::Certificate(error) => {
                Failure::new(SOFTWARE, format!("cannot make a certificate for localhost: {error}"), "")
            }
        }
    }
}

impl From<rcgen::Error> for NotMade {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

/// Makes what is missing or will not do for long. `true`: the authority is new.
fn prepare(folder: &Path) -> Result<(Files, bool), NotMade> {
    let in_folder = |error| NotMade::File(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(in_folder)?;
    // Two servers that start at once must not mix their files.
    let lock = File::open(folder).map_err(in_folder)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| in_folder(e.into()))?;
    let files = Files {
        authority: folder.join("ca.pem"),
        authority_key: folder.join("ca-key.pem"),
        certificate: folder.join("localhost.pem"),
        key: folder.join("localhost-key.pem"),
    };
    let kept = read_key(&files.authority_key).filter(|_| is_good(&files.authority));
    let made = kept.is_none();
    let key = if let Some(key) = kept {
        key
    } else {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority()?.self_signed(&key)?;
        // Without a certificate that fits, the next start makes both anew.
        remove(&files.authority)?;
        write(&files.authority_key, &key.serialize_pem(), 0o600)?;
        write(&files.authority, &certificate.pem(), 0o644)?;
        key
    };
    if made || !is_good(&files.certificate) || read_key(&files.key).is_none() {
        let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = for_localhost()?.signed_by(&own, &Issuer::new(authority()?, key))?;
        remove(&files.certificate)?;
        write(&files.key, &own.serialize_pem(), 0o600)?;
        write(&files.certificate, &certificate.pem(), 0o644)?;
    }
    Ok((files, made))
}

/// Whether a certificate is there and will do for a while.
fn is_good(certificate: &Path) -> bool {
    let der = std::fs::read(certificate).ok().and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
    let now = since_1970();
    der.and_then(|der| config::expiry_seconds(&der)).is_some_and(|end| end > (now + LEFT).as_secs() as i64)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn read_key(path: &Path) -> Option<KeyPair> {
    KeyPair::from_pem(&std::fs::read_to_string(path).ok()?).ok()
}

fn remove(path: &Path) -> Result<(), NotMade> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NotMade::File(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// Whole or not at all, and never readable for others than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), NotMade> {
    let new = path.with_extension("new");
    let written = || {
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    };
    written().map_err(|error| NotMade::File(path.to_owned(), error))
}

/// Good for so many days from yesterday on: clocks differ.
fn params(names: Vec<String>, name: &str, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970().saturating_sub(DAY);
    params.not_after = params.not_before + DAY * (days + 1);
    Ok(params)
}

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(Vec::new(), NAME, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(Ipv4Addr::LOCALHOST.octets(), 32)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

fn for_localhost() -> Result<CertificateParams, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut params = params(names, "localhost", CERTIFICATE_DAYS)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::{ServerName, UnixTime};

    fn accepts(files: &Files, name: &str) -> bool {
        let read = |path| CertificateDer::from_pem_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read(&files.authority)).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&read(&files.certificate), &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn an_authority_is_made_once_and_certificates_as_they_run_out() {
        let root = std::env::temp_dir().join(format!("trivet-dev-{}", std::process::id()));
        let folder = root.join("a/trivet");
        let (files, made) = prepare(&folder).unwrap();
        assert!(made);
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(accepts(&files, name), "{name}");
        }
        assert!(!accepts(&files, "shop.example"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&files.authority_key), mode(&files.key)), (0o700, 0o600, 0o600));
        let all = |files: &Files| {
            [&files.authority, &files.authority_key, &files.certificate, &files.key]
                .map(|path| std::fs::read(path).unwrap())
        };
        let first = all(&files);
        let (files, made) = prepare(&folder).unwrap();
        assert!(!made && all(&files) == first, "nothing is made without need");

        let mut soon = for_localhost().unwrap();
        soon.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970() + LEFT - Duration::from_secs(60);
        let issuer = Issuer::new(authority().unwrap(), read_key(&files.authority_key).unwrap());
        let old = soon.signed_by(&read_key(&files.key).unwrap(), &issuer).unwrap();
        std::fs::write(&files.certificate, old.pem()).unwrap();
        let (files, made) = prepare(&folder).unwrap();
        let second = all(&files);
        assert!(!made && second[..2] == first[..2] && second[2] != first[2] && accepts(&files, "localhost"));

        std::fs::write(&files.authority, "no certificate").unwrap();
        let (files, made) = prepare(&folder).unwrap();
        assert!(made && accepts(&files, "::1"));
        std::fs::write(&files.key, "no key").unwrap();
        let (files, made) = prepare(&folder).unwrap();
        assert!(!made && accepts(&files, "::1") && read_key(&files.key).is_some());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_authority_vouches_for_nobody_else() {
        let root = std::env::temp_dir().join(format!("trivet-dev-other-{}", std::process::id()));
        let (files, _) = prepare(&root).unwrap();
        let issuer = Issuer::new(authority().unwrap(), read_key(&files.authority_key).unwrap());
        for (name, right) in [("localhost", true), ("shop.example", false), ("127.0.0.2", false)] {
            let other = params(vec![name.to_owned()], "x", 9).unwrap();
            let other = other.signed_by(&read_key(&files.key).unwrap(), &issuer).unwrap();
            std::fs::write(&files.certificate, other.pem()).unwrap();
            assert_eq!(accepts(&files, name), right, "{name}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
