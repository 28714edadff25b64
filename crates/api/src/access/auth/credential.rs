//! The `Authorization` header of a request, on either transport.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::unauthenticated;
use base::error::Result;

/// The credential that a client sends. Not `Debug`, because it is secret.
pub(super) enum Credential {
    /// RFC 6750.
    Bearer(Vec<u8>),
    /// RFC 7617.
    Basic { user: String, password: Vec<u8> },
}

impl Credential {
    /// Takes the credential out of the headers; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` for several headers, other schemes and malformed values.
    pub(super) fn take(headers: &mut HeaderMap) -> Result<Option<Self>> {
        let is_one = headers.get_all(AUTHORIZATION).iter().count() <= 1;
        let Some(value) = headers.remove(AUTHORIZATION) else {
            return Ok(None);
        };
        if !is_one {
            return Err(unauthenticated("there is more than one credential"));
        }
        let value = value.as_bytes();
        let space = value.iter().position(|&byte| byte == b' ');
        let (scheme, rest) = value.split_at(space.unwrap_or(value.len()));
        let rest = rest.trim_ascii();
        let credential = if scheme.eq_ignore_ascii_case(b"bearer") {
            Some(Self::Bearer(rest.to_vec()))
        } else if scheme.eq_ignore_ascii_case(b"basic") {
            basic(rest)
        } else {
            return Err(unauthenticated(
                "credentials have to be of the scheme Bearer or Basic",
            ));
        };
        match credential {
            Some(credential) => Ok(Some(credential)),
            None => Err(unauthenticated("the credentials are malformed")),
        }
    }
}

/// Base64 of `<user>:<password>`.
fn basic(encoded: &[u8]) -> Option<Credential> {
    let mut user = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = user.iter().position(|&byte| byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some(Credential::Basic {
        user: String::from_utf8(user).ok()?,
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(values: &[&str]) -> Result<Option<Credential>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let taken = Credential::take(&mut headers);
        assert!(headers.is_empty(), "the header stays: {values:?}");
        taken
    }

    #[test]
    fn no_header_is_no_credential() {
        assert!(matches!(take(&[]), Ok(None)));
    }

    // The example of RFC 7617, section 2.
    #[test]
    fn basic_credentials_are_decoded() {
        for scheme in ["Basic", "basic", "BASIC"] {
            let value = format!("{scheme} QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
            let Ok(Some(Credential::Basic { user, password })) = take(&[&value]) else {
                panic!("{scheme} is not understood");
            };
            assert_eq!(
                (user.as_str(), &password[..]),
                ("Aladdin", &b"open sesame"[..])
            );
        }
    }

    // The example of RFC 6750, section 2.1.
    #[test]
    fn bearer_tokens_are_taken_as_they_are() {
        let Ok(Some(Credential::Bearer(token))) = take(&["Bearer mF_9.B5f-4.1JqM"]) else {
            panic!("not understood");
        };
        assert_eq!(token, b"mF_9.B5f-4.1JqM");
    }

    #[test]
    fn other_headers_are_refused() {
        let cases: [&[&str]; 6] = [
            &["Digest username=x"],
            &["Basic !!!"],
            &["Basic bm9jb2xvbg=="],
            &[""],
            &["Bearer a", "Bearer b"],
            &["Basic"],
        ];
        for values in cases {
            assert!(take(values).is_err(), "{values:?}");
        }
    }
}
