//! TLS over TCP, with rustls. Any certificate will do: the servers make theirs up.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// More than is ever in flight, so that one system call reads what has arrived.
const CIPHERTEXT: usize = 512 * 1024;

pub struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
    ciphertext: Vec<u8>,
}

impl TlsStream {
    /// Shakes hands over a socket that blocks.
    pub fn shaken(socket: TcpStream) -> Result<Self, String> {
        let mut stream = Self::new(socket)?;
        while stream.session.is_handshaking() {
            stream
                .session
                .complete_io(&mut stream.socket)
                .map_err(|error| format!("TLS: {error}"))?;
        }
        Ok(stream)
    }

    /// The handshake begins with the first bytes that are sent, and these follow it.
    pub fn new(socket: TcpStream) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("TLS: {error}");
        let name = ServerName::try_from("localhost").map_err(|error| failed(&error))?;
        let mut session = ClientConnection::new(config()?, name).map_err(|error| failed(&error))?;
        session.set_buffer_limit(None);
        Ok(Self { socket, session, ciphertext: Vec::new() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Encrypts all of `bytes` and sends what the socket takes; the rest waits for the next call.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.writer().write_all(bytes)?;
        self.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decrypts all that has arrived; what a handshake has to answer to it is sent.
    pub fn receive(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        if self.ciphertext.is_empty() {
            self.ciphertext = vec![0; CIPHERTEXT];
        }
        let mut taken = 0;
        loop {
            let count = match self.socket.read(&mut self.ciphertext) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) => return Err(error),
            };
            let mut rest = &self.ciphertext[..count];
            // rustls takes some kibibytes at a time, and no more before its plaintext is read.
            while !rest.is_empty() {
                self.session.read_tls(&mut rest)?;
                self.session.process_new_packets().map_err(io::Error::other)?;
                loop {
                    match self.session.reader().read(&mut scratch[taken..]) {
                        Ok(0) => break,
                        Ok(plain) => taken += plain,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
            }
            if count == 0 {
                return Ok(taken);
            }
            if count < self.ciphertext.len() {
                break;
            }
        }
        self.flush()?;
        // Records without application data, such as session tickets, are no end.
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

fn config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            // The cheapest cipher, the same for every server: this side's work must stay the lesser.
            let mut provider = ring::default_provider();
            provider.cipher_suites.retain(|suite| {
                matches!(
                    suite.suite(),
                    CipherSuite::TLS13_AES_128_GCM_SHA256
                        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                )
            });
            let provider = Arc::new(provider);
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS: {error}"))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth();
            config.resumption = rustls::client::Resumption::disabled();
            Ok(Arc::new(config))
        })
        .clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
