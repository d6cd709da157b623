//! The server's certificate: of two PEM files, or of its own making.
//!
//! A certificate of its own making is kept in the data folder, so that its fingerprint is the same after a restart: players
//! pin it (`https://HOST#sha256=…`), and nothing else in it is ever checked. It names no address and does not expire.
//! Reading says which file is wrong, how, and what to try; what is unreadable is never replaced.

use super::Tls;
use crate::model::pin::Pin;
use crate::model::text::Blob;
use anyhow::{Context, anyhow, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Where a certificate of one's own making is kept.
const OWN: &str = "tls_self_signed.json";
/// No chain of certificates is larger.
const FILE_BYTES: u64 = 1 << 20;
/// What TLS clients may say they want inside: HTTP, and TURN and STUN (RFC 7443). All of them get whatever their first
/// byte asks for; who names something else came to the wrong server.
const ALPN: [&[u8]; 3] = [b"http/1.1", b"stun.turn", b"stun.nat-discovery"];

/// A certificate with its key, ready for connections.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    pub(super) pin: Pin,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.pin)
    }
}

/// The certificate that was asked for; `None` when none was.
///
/// # Errors
/// When a file cannot be read or does not hold what it should.
pub(super) fn load(tls: &Tls, data_dir: &Path) -> anyhow::Result<Option<Identity>> {
    match tls {
        Tls::None => Ok(None),
        Tls::Files { cert, key } => of_files(cert, key).map(Some),
        Tls::SelfSigned => own(data_dir).map(Some),
    }
}

fn of_files(cert: &Path, key: &Path) -> anyhow::Result<Identity> {
    let (chain, secret) = (read_chain(cert)?, read_key(key)?);
    identity(chain, secret).map_err(|why| {
        let (cert, key) = (cert.display(), key.display());
        if matches!(why, rustls::Error::InconsistentKeys(_)) {
            return anyhow!(
                "the key in {key} does not belong to the first certificate in {cert}; name the pair that was made \
                 together (with Let's Encrypt: fullchain.pem and privkey.pem of one folder)"
            );
        }
        anyhow!("the certificate {cert} and the key {key} cannot be used: {why}")
    })
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read(path, "certificate", "--tls-cert")?;
    let shown = path.display();
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| anyhow!("the certificate file {shown} is damaged ({})", said(&e)))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    if PrivateKeyDer::from_pem_slice(&text).is_ok() {
        bail!("{shown} holds a key, not a certificate; are --tls-cert and --tls-key swapped?");
    }
    bail!(
        "{shown} holds no certificate; --tls-cert wants a PEM file (it begins with -----BEGIN CERTIFICATE-----)"
    )
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = read(path, "key", "--tls-key")?;
    let shown = path.display();
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if has(&text, "BEGIN ENCRYPTED PRIVATE KEY") => bail!(
            "the key in {shown} is locked with a password; write an open copy with `openssl pkey -in {shown} -out FILE`"
        ),
        Err(pem::Error::NoItemsFound) if has(&text, "BEGIN CERTIFICATE") => {
            bail!("{shown} holds a certificate, not a key; are --tls-cert and --tls-key swapped?")
        }
        Err(pem::Error::NoItemsFound) => {
            bail!(
                "{shown} holds no key; --tls-key wants a PEM file (it begins with -----BEGIN PRIVATE KEY-----)"
            )
        }
        Err(e) => bail!("the key file {shown} is damaged ({})", said(&e)),
    }
}

fn has(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|w| w == what.as_bytes())
}

fn said(error: &pem::Error) -> String {
    if matches!(error, pem::Error::Base64Decode(_)) {
        return "it is not base 64 between its BEGIN and END lines".to_owned();
    }
    if matches!(error, pem::Error::MissingSectionEnd { .. }) {
        return "an END line is missing; was it cut off?".to_owned();
    }
    error.to_string()
}

fn read(path: &Path, what: &str, option: &str) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let mut text = Vec::new();
    let read = File::open(path).and_then(|f| f.take(FILE_BYTES + 1).read_to_end(&mut text));
    if let Err(e) = read {
        let hint = if e.kind() == ErrorKind::NotFound {
            format!("; is the path after {option} right?")
        } else if e.kind() == ErrorKind::PermissionDenied {
            "; this user may not read it: start the server with more rights, or copy the file".to_owned()
        } else {
            String::new()
        };
        bail!("the {what} file {shown} cannot be read: {e}{hint}");
    }
    if text.len() as u64 > FILE_BYTES {
        bail!("{shown} is larger than any {what} file; is the path after {option} right?");
    }
    Ok(text)
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Identity, rustls::Error> {
    let first = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let pin = Pin(Sha256::digest(first).into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), pin })
}

/// What is kept in the data folder.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    certificate: Blob,
    key: Blob,
}

fn own(dir: &Path) -> anyhow::Result<Identity> {
    let path = dir.join(OWN);
    let kept = match fs::read(&path) {
        Ok(text) => serde_json::from_slice::<Kept>(&text).ok().filter(|k| k.version == 1).with_context(|| {
            format!(
                "{} does not hold the server's own certificate any more; put back a copy of it, or delete it and give \
                 the players the new fingerprint",
                path.display()
            )
        })?,
        Err(e) if e.kind() == ErrorKind::NotFound => make(dir, &path)?,
        Err(e) => return Err(anyhow!("the server's own certificate {} cannot be read: {e}", path.display())),
    };
    let key = PrivatePkcs8KeyDer::from(kept.key.0);
    identity(vec![kept.certificate.0.into()], key.into()).map_err(|e| {
        anyhow!(
            "the server's own certificate {} cannot be used ({e}); delete it to make a new one",
            path.display()
        )
    })
}

/// Makes a certificate and keeps it, for this user's eyes only.
fn make(dir: &Path, path: &Path) -> anyhow::Result<Kept> {
    let made =
        rcgen::generate_simple_self_signed(vec!["lanrage".to_owned()]).context("making a certificate")?;
    let (certificate, key) = (Blob(made.cert.der().to_vec()), Blob(made.signing_key.serialize_der()));
    let kept = Kept { version: 1, certificate, key };
    let write = || -> std::io::Result<()> {
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        folder.create(dir)?;
        let temporary = dir.join(format!("{OWN}.tmp-{}", std::process::id()));
        let mut file = options.open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&kept)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("the server's own certificate cannot be kept as {}", path.display()))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n";

    fn files(cert: &str, key: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (c, k) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        fs::write(&c, cert).unwrap();
        fs::write(&k, key).unwrap();
        (dir, c, k)
    }

    fn why(cert: &str, key: &str) -> String {
        let (_dir, c, k) = files(cert, key);
        of_files(&c, &k).unwrap_err().to_string()
    }

    /// A certificate and its key as PEM, made on the spot.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).unwrap();
        (pem(made.cert.der(), "CERTIFICATE"), pem(&made.signing_key.serialize_der(), "PRIVATE KEY"))
    }

    fn pem(der: &[u8], label: &str) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut body = String::new();
        for chunk in der.chunks(3) {
            let mut three = [0; 3];
            three[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for n in 0..4 {
                let value = usize::try_from(bits >> (18 - 6 * n) & 63).unwrap();
                body.push(if n <= chunk.len() { char::from(ALPHABET[value]) } else { '=' });
            }
        }
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn a_pair_of_files_is_taken() {
        let (cert, key) = pair();
        let (_dir, c, k) = files(&cert, &key);
        assert_eq!(of_files(&c, &k).unwrap().pin.to_string().len(), 64);
    }

    #[test]
    fn each_mistake_with_the_files_names_the_file_and_what_to_try() {
        let ((cert, key), (_, other)) = (pair(), pair());
        for (text, parts) in [
            (why("", &key), ["c.pem holds no certificate", "--tls-cert"]),
            (why(&key, &cert), ["c.pem holds a key", "swapped"]),
            (why(&cert, &cert), ["k.pem holds a certificate", "swapped"]),
            (why(&cert, "x"), ["k.pem holds no key", "--tls-key"]),
            (why(&cert, &KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")), ["k.pem is locked", "openssl"]),
            (why(&cert, &other), ["k.pem does not belong", "c.pem"]),
            (why(&cert[..200], &key), ["c.pem is damaged", "cut off"]),
            (why(&cert.replace('M', "*"), &key), ["c.pem is damaged", "base 64"]),
        ] {
            assert!(parts.iter().all(|p| text.contains(p)), "{text}");
        }
        let (dir, c, k) = files(&cert, &key);
        let missing = of_files(&dir.path().join("no.pem"), &k).unwrap_err().to_string();
        assert!(missing.contains("no.pem") && missing.contains("--tls-cert"), "{missing}");
        let folder = of_files(&c, dir.path()).unwrap_err().to_string();
        assert!(folder.contains("the key file"), "{folder}");
    }

    #[test]
    fn a_certificate_of_its_own_is_the_same_after_a_restart_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("data");
        let first = own(&inner).unwrap().pin;
        assert_eq!(own(&inner).unwrap().pin, first);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(inner.join(OWN)).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600, "nobody else reads the key");
        }
        fs::write(inner.join(OWN), "{}").unwrap();
        let why = own(&inner).unwrap_err().to_string();
        assert!(why.contains(OWN) && why.contains("fingerprint"), "{why}");
        assert_eq!(fs::read(inner.join(OWN)).unwrap(), b"{}");
    }
}
