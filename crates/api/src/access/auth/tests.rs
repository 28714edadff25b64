//! Authentication and authorization.

use http::header::AUTHORIZATION;

use super::*;
use net::peer::Source;
use net::tls::PeerNames;
use proto::onnx_model_server::Identity as Message;

/// SHA-256 of `a-token` by `printf a-token | sha256sum`.
const TOKEN_SHA256: &str = "1f6076e3a47ba1ded08025ffe06e57af217c14f9407f33fba50f99b1c7019387";

/// The output of the algorithm's reference program:
/// `printf 'open sesame' | argon2 somesalt -id -t 2 -m 3 -p 1 -e`.
const ALICES_HASH: &str =
    "$argon2id$v=19$m=8,t=2,p=1$c29tZXNhbHQ$aSVl9eeoe/wYHAXlSjrjRD19cyYm5LSprdKmdLZKNok";
/// `printf 'alice:open sesame' | base64`, and so on.
const ALICE: &str = "Basic YWxpY2U6b3BlbiBzZXNhbWU=";
const ALICE_WRONG: &str = "Basic YWxpY2U6b3BlbiBTZXNhbWU=";
const MALLORY: &str = "Basic bWFsbG9yeTpvcGVuIHNlc2FtZQ==";

fn named(name: &str) -> Message {
    Message {
        name: name.to_owned(),
        ..Message::default()
    }
}

/// `robot` with a token, `alice` with a password, `mesh` with certificates.
fn config() -> AuthConfig {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    AuthConfig {
        identity: vec![
            Message {
                token_sha256: vec![TOKEN_SHA256.to_owned()],
                predict: list(&["a", "b"]),
                status: list(&["*"]),
                ..named("robot")
            },
            Message {
                password_argon2: ALICES_HASH.to_owned(),
                admin: list(&["*"]),
                ..named("alice")
            },
            Message {
                certificate_subject: list(&["spiffe://mesh/x", "mesh.example"]),
                metadata: list(&["a"]),
                ..named("mesh")
            },
        ],
        metrics_need_identity: false,
    }
}

fn auth() -> Auth {
    Auth::try_new(&config()).unwrap()
}

async fn caller(auth: &Auth, authorization: &str, peer: PeerNames) -> Result<Caller> {
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    }
    let peer = Peer::new(peer, Source::Unknown);
    auth.authenticate(&mut headers, &peer).await
}

async fn name(auth: &Auth, authorization: &str, peer: PeerNames) -> Option<String> {
    match caller(auth, authorization, peer).await {
        Ok(Caller::Known(identity)) => Some(identity.name.clone()),
        Ok(Caller::Anybody) => panic!("there are rules"),
        Err(error) => {
            assert_eq!(error.code(), Code::Unauthenticated);
            None
        }
    }
}

#[tokio::test]
async fn every_credential_finds_its_identity() {
    let auth = auth();
    let nobody = PeerNames::default;
    let mesh = || PeerNames::from(["someone", "mesh.example"]);
    let cases = [
        ("Bearer a-token", nobody(), Some("robot")),
        ("Bearer b-token", nobody(), None),
        ("Bearer ", nobody(), None),
        // The hash itself is not a token.
        (&format!("Bearer {TOKEN_SHA256}"), nobody(), None),
        (ALICE, nobody(), Some("alice")),
        // This time the password is remembered.
        (ALICE, nobody(), Some("alice")),
        (ALICE_WRONG, nobody(), None),
        (MALLORY, nobody(), None),
        ("", nobody(), None),
        ("", mesh(), Some("mesh")),
        ("", PeerNames::from(["mesh.example.org"]), None),
        // A header takes precedence over a certificate, even if it is wrong.
        ("Bearer a-token", mesh(), Some("robot")),
        ("Bearer b-token", mesh(), None),
    ];
    for (authorization, peer, expected) in cases {
        let found = name(&auth, authorization, peer.clone()).await;
        assert_eq!(found.as_deref(), expected, "{authorization:?}, {peer:?}");
    }
}

#[tokio::test]
async fn many_checks_of_one_password_all_pass() {
    let auth = auth();
    let calls = (0..50).map(|_| name(&auth, ALICE, PeerNames::default()));
    for found in futures_util::future::join_all(calls).await {
        assert_eq!(found.as_deref(), Some("alice"));
    }
}

#[tokio::test]
async fn callers_may_what_the_lists_say() {
    let auth = auth();
    let robot = caller(&auth, "Bearer a-token", PeerNames::default())
        .await
        .unwrap();
    for (api, model, may) in [
        (Api::Predict, "a", true),
        (Api::Classify, "b", true),
        (Api::Regress, "a", true),
        (Api::MultiInference, "b", true),
        (Api::Predict, "c", false),
        (Api::Predict, "", false),
        (Api::Predict, "*", false),
        (Api::Metadata, "a", false),
        (Api::Status, "anything", true),
        (Api::Reload, "a", false),
        (Api::Other, "", true),
    ] {
        assert_eq!(robot.may(api, model).is_ok(), may, "{api:?} {model}");
    }
    assert!(robot.may_any(Api::Predict).is_ok());
    assert!(robot.may_any(Api::Metadata).is_err());
    let error = robot.may(Api::Predict, "c").unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(
        error.to_string(),
        "'robot' is not allowed to call model 'c'"
    );
}

#[tokio::test]
async fn without_rules_everybody_may() {
    let anybody = caller(&Auth::default(), "", PeerNames::default())
        .await
        .unwrap();
    assert!(anybody.may(Api::Reload, "m").is_ok());
    assert!(anybody.may_any(Api::Reload).is_ok());
}

#[tokio::test]
async fn new_rules_take_the_place_of_old_ones() {
    let auth = auth();
    assert!(name(&auth, ALICE, PeerNames::default()).await.is_some());
    let mut new = config();
    new.identity.remove(1);
    auth.replace(&new).unwrap();
    assert!(name(&auth, ALICE, PeerNames::default()).await.is_none());
    auth.replace(&AuthConfig::default()).unwrap_err();
    let robot = name(&auth, "Bearer a-token", PeerNames::default()).await;
    assert_eq!(robot.as_deref(), Some("robot"));
}

#[tokio::test]
async fn right_passwords_stay_known_where_they_are_kept() {
    let auth = auth();
    let is_known = |auth: &Auth| {
        let rules = auth.0.as_ref().unwrap().rules.load_full();
        let tag = rules.password_tag(b"open sesame");
        rules.by_user("alice").unwrap().has_password(&tag)
    };
    assert!(!is_known(&auth));
    assert!(name(&auth, ALICE, PeerNames::default()).await.is_some());
    let mut new = config();
    new.identity.remove(0);
    auth.replace(&new).unwrap();
    assert!(is_known(&auth));
    // Another hash, even of the same password.
    let alice = new.identity.iter_mut().find(|it| it.name == "alice");
    alice.unwrap().password_argon2 = ALICES_HASH.replace("t=2", "t=3");
    auth.replace(&new).unwrap();
    assert!(!is_known(&auth));
}

/// Long, because it is a table with a case for each rule.
#[test]
fn rules_that_make_no_sense_are_refused() {
    let with_token = |name: &str, hash: &str| Message {
        token_sha256: vec![hash.to_owned()],
        ..named(name)
    };
    let with_password = |name: &str, hash: &str| Message {
        password_argon2: hash.to_owned(),
        ..named(name)
    };
    let of_mesh = |name: &str| Message {
        certificate_subject: vec!["mesh".to_owned()],
        ..named(name)
    };
    let expensive = ALICES_HASH.replace("m=8,", "m=1000000,");
    assert_ne!(expensive, ALICES_HASH);
    let cases: [(&[Message], &str); 12] = [
        (&[], "there is no identity"),
        (&[named("")], "an identity has no name"),
        (&[named("x")], "identity 'x' has no credential"),
        (&[of_mesh("x"), of_mesh("x")], "identity 'x' is there twice"),
        (
            &[of_mesh("x"), of_mesh("y")],
            "identity 'y' has a certificate_subject that is there twice",
        ),
        (
            &[
                with_token("x", TOKEN_SHA256),
                with_token("y", &TOKEN_SHA256.to_uppercase()),
            ],
            "identity 'y' has a token that is there twice",
        ),
        (
            &[with_token("x", "a-token")],
            "identity 'x' has a token_sha256 that is not 64 hex digits",
        ),
        (
            &[with_token("x", "")],
            "identity 'x' has a token_sha256 that is not 64 hex digits",
        ),
        (
            &[with_password("x", "open sesame")],
            "identity 'x' has a password_argon2 that is not an Argon2 hash, or is too expensive",
        ),
        (
            &[with_password(
                "x",
                "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            )],
            "identity 'x' has a password_argon2 that is not an Argon2 hash, or is too expensive",
        ),
        (
            &[with_password("x", &expensive)],
            "identity 'x' has a password_argon2 that is not an Argon2 hash, or is too expensive",
        ),
        (
            &[with_password("x:y", ALICES_HASH)],
            "identity 'x:y' has a colon, which no user name can have",
        ),
    ];
    for (identities, expected) in cases {
        let config = AuthConfig {
            identity: identities.to_vec(),
            ..AuthConfig::default()
        };
        let error = Auth::try_new(&config).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        // The error does not reveal the secret, or text in its place.
        assert!(!error.to_string().contains("sesame"));
    }
}

#[test]
fn hashes_are_those_of_the_standards() {
    assert_eq!(hash_token(b"a-token"), TOKEN_SHA256);
    let hash = hash_password(b"open sesame").unwrap();
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    assert_ne!(
        hash,
        hash_password(b"open sesame").unwrap(),
        "each has its salt"
    );
    let config = AuthConfig {
        identity: vec![Message {
            password_argon2: hash,
            ..named("alice")
        }],
        ..AuthConfig::default()
    };
    Auth::try_new(&config).unwrap();
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let auth = auth();
    let alice = caller(&auth, ALICE, PeerNames::default()).await.unwrap();
    let shown = format!("{auth:?} {alice:?}");
    assert_eq!(shown, "Auth(true) Known(Identity(\"alice\"))");
}
