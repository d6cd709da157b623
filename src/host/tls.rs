//! TLS towards servers: whose certificate is good enough, and what to say when it is not.
//!
//! Three kinds of trust. *Pinned*: exactly one certificate, by its SHA-256. *Roots*: one for the name that was dialled,
//! vouched for by an authority that this computer trusts. *Anyone*: no authenticity was asked for (an `http://` address
//! that was reached on 443 because nothing else gets out); that is no worse than the plain HTTP that was asked for. In all
//! three the other side proves that it holds the certificate's key.

use crate::model::pin::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::io;
use std::pin::Pin as Pinned;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Which certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// This one.
    Pinned(Pin),
    /// One for the right name, of an authority that this computer trusts.
    Roots,
    /// Any: nobody asked for authenticity.
    Anyone,
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Line {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no encrypted connection.
#[derive(Debug)]
pub struct NoTls {
    /// For people.
    pub why: String,
    /// Whether trying again may help.
    pub passing: bool,
}

impl Line {
    /// The SHA-256 of the other side's certificate.
    #[must_use]
    pub fn seen(&self) -> Option<Pin> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(pin_of),
        }
    }

    /// The TCP connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Makes a connection an encrypted one. `name` is the host that was dialled, a name or an IP address; `shown` is what people
/// call it; `alpn` is what will be spoken inside.
///
/// # Errors
/// When the other side speaks no TLS, or has a certificate that is not good enough.
pub async fn wrap(
    stream: TcpStream,
    trust: Trust,
    name: &str,
    shown: &str,
    alpn: &[&[u8]],
) -> Result<Line, NoTls> {
    let lasting = |why: String| NoTls { why, passing: false };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| lasting(format!("{shown} has no name that a certificate could be for")))?;
    let mut config = match trust {
        Trust::Roots => with_roots().await.map_err(lasting)?,
        Trust::Pinned(pin) => unchecked(Some(pin)).map_err(|e| lasting(e.to_string()))?,
        Trust::Anyone => unchecked(None).map_err(|e| lasting(e.to_string()))?,
    };
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => Ok(Line::Tls(Box::new(stream))),
        Err(error) => Err(explain(&error, shown)),
    }
}

fn pin_of(certificate: &CertificateDer<'_>) -> Pin {
    Pin(Sha256::digest(certificate).into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration with this computer's authorities. They are read once, away from the caller's thread: it takes some
/// 10 ms and touches the disk.
async fn with_roots() -> Result<ClientConfig, String> {
    static READ: OnceLock<Result<ClientConfig, String>> = OnceLock::new();
    let read = tokio::task::spawn_blocking(|| READ.get_or_init(read_roots).clone());
    read.await.unwrap_or_else(|e| Err(format!("this computer's authorities could not be read: {e}")))
}

fn read_roots() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(format!(
            "this computer knows no authority that vouches for certificates{why}; install them (on Debian the \
             package ca-certificates), or write the certificate's fingerprint behind the address: #sha256=…"
        ));
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn unchecked(pin: Option<Pin>) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Arc::new(ByPin { pin, schemes: provider.signature_verification_algorithms });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes one certificate, or any. Whose it is, when it ends and who signed it is not looked at; that its key is there, is.
#[derive(Debug)]
struct ByPin {
    pin: Option<Pin>,
    schemes: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ByPin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pin.is_none_or(|pin| pin == pin_of(certificate)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.supported_schemes()
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's lists, which grow")]
fn explain(error: &io::Error, shown: &str) -> NoTls {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
        return NoTls { why: format!("the connection to {shown} broke: {error}"), passing: true };
    };
    let why = match tls {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => format!(
            "{shown} shows another certificate than the one whose fingerprint was given; either its certificate was \
             changed (ask its host for the address again), or somebody else answers in its place"
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "nobody that this computer trusts vouches for the certificate of {shown}; if the server made it itself, \
             write its fingerprint behind the address (#sha256=…, as `lanrage server` prints it)"
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the certificate of {shown} is for another name; is the address spelled as its host gave it?"
        ),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the certificate of {shown} has expired; or is the clock of this computer wrong?")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => format!("the certificate of {shown} is not valid yet; is the clock of this computer wrong?"),
        Error::InvalidCertificate(other) => format!("the certificate of {shown} is not good: {other}"),
        Error::InvalidMessage(_) | Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            format!(
                "what answers at {shown} does not speak TLS; is the port right, or is it an http:// address?"
            )
        }
        other => format!("no encrypted connection to {shown}: {other}"),
    };
    NoTls { why, passing: false }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pinned<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pinned::new(stream).poll_read(cx, room),
            Self::Tls(stream) => Pinned::new(stream).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pinned<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pinned::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pinned::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pinned::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pinned::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pinned::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pinned::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_is_told_in_words_that_help() {
        let said = |e: Error| explain(&io::Error::new(io::ErrorKind::InvalidData, e), "h:443");
        let bad = |c: CertificateError| said(Error::InvalidCertificate(c)).why;
        assert!(bad(CertificateError::UnknownIssuer).contains("#sha256="));
        assert!(bad(CertificateError::ApplicationVerificationFailure).contains("fingerprint"));
        assert!(bad(CertificateError::Expired).contains("clock"));
        assert!(bad(CertificateError::NotValidForName).contains("another name"));
        let plain = said(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        assert!(plain.why.contains("does not speak TLS") && !plain.passing);
        let broke = explain(&io::ErrorKind::ConnectionReset.into(), "h:443");
        assert!(broke.passing, "a connection that broke may hold the next time");
    }
}
