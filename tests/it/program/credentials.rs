//! Credentials: the AWS CLI's order, and what is said if there are none.

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{Person, aws_says};

const STATUS: [&str; 3] = ["status", "--stack", "ir"];
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "hush")];
/// Two profiles with keys.
const TWO: &str = "
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key = hush
[profile ir]
aws_access_key_id = PROFILE
aws_secret_access_key = hush
";
/// What `aws configure export-credentials` and a `credential_process` print.
const PRINTED: &str = r#"{"Version": 1, "AccessKeyId": "PRINTED", "SecretAccessKey": "hush", "SessionToken": "hush"}"#;

/// The access keys that the calls of this command are signed with.
async fn keys_of(person: Person, arguments: &[&str]) -> std::collections::BTreeSet<String> {
    let aws = MockServer::start().await;
    let answer = |request: &Request| {
        let (status, body) = aws_says(&String::from_utf8_lossy(&request.body));
        ResponseTemplate::new(status).set_body_string(body)
    };
    Mock::given(any()).respond_with(answer).mount(&aws).await;
    let ran = person.with(&[("AWS_ENDPOINT_URL", &aws.uri())]).runs(arguments).await;
    ran.complains("AccessDenied: nothing but who you are");
    let requests = aws.received_requests().await.unwrap();
    let key = |request: &Request| {
        let signature = request.headers["authorization"].to_str().unwrap().to_owned();
        signature.split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned()
    };
    requests.iter().map(key).collect()
}

async fn check(person: Person, profile: &[&str], key: &str) {
    assert_eq!(keys_of(person, &[&STATUS, profile].concat()).await, [key.to_owned()].into());
}

#[tokio::test]
async fn a_profile_that_is_asked_for_beats_the_keys_in_the_environment_which_beat_the_environments_profile() {
    let both = |name| Person::new(name, TWO).with(&KEYS);
    check(both("flag"), &["--profile", "ir"], "PROFILE").await;
    check(both("variable").with(&[("AWS_PROFILE", "ir")]), &[], "ENVIRONMENT").await;
    check(both("neither"), &[], "ENVIRONMENT").await;
    check(Person::new("only-variable", TWO).with(&[("AWS_PROFILE", "ir")]), &[], "PROFILE").await;
    check(Person::new("only-default", TWO), &[], "DEFAULT").await;
    let other = Person::new("both-profiles", TWO).with(&[("AWS_PROFILE", "default")]);
    check(other, &["--profile", "ir"], "PROFILE").await;
}

#[tokio::test]
async fn a_profile_that_does_not_exist_is_refused_by_name_with_the_files_and_the_profiles_that_do() {
    let said =
        "there is no profile nope in ~/.aws/config and ~/.aws/credentials; choose one with --profile: default, ir";
    let asked = [&STATUS[..], &["--profile", "nope"]].concat();
    Person::new("nope", TWO).with(&KEYS).runs(&asked).await.ends_with(3).complains(said);
    Person::new("nope-2", TWO)
        .with(&KEYS)
        .with(&[("AWS_PROFILE", "nope")])
        .runs(&STATUS)
        .await
        .ends_with(3)
        .complains(said);
    let elsewhere = Person::new("nope-3", TWO).with(&[("AWS_CONFIG_FILE", "/elsewhere")]);
    let said = "in /elsewhere and ~/.aws/credentials; choose one with --profile: there is none";
    elsewhere.runs(&asked).await.ends_with(3).complains(said);
}

#[tokio::test]
async fn a_credential_process_is_run_and_what_it_complains_of_is_shown() {
    let works = format!("[profile ir]\ncredential_process = echo '{PRINTED}'\n");
    check(Person::new("process", &works), &["--profile", "ir"], "PRINTED").await;
    let fails = "[profile ir]\ncredential_process = echo no vault >&2; exit 3\n";
    let ran =
        Person::new("process-fails", fails).runs(&[&STATUS[..], &["--profile", "ir"]].concat()).await.ends_with(3);
    ran.complains("there are no credentials: profile ir: no vault; compare: aws sts get-caller-identity --profile ir");
}

/// What the SDK cannot do: a session of `aws login`, a role that wants MFA, and a role of such a session.
const FOR_THE_CLI: &str = "
[profile login]
login_session = arn:aws:iam::123456789012:user/x
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/ir
source_profile = keys
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile keys]
aws_access_key_id = PROFILE
aws_secret_access_key = hush
[profile onward]
role_arn = arn:aws:iam::123456789012:role/ir
source_profile = login
[profile 'with blank']
login_session = arn:aws:iam::123456789012:user/x
";

#[tokio::test]
async fn the_aws_cli_is_asked_for_what_the_sdk_cannot_do() {
    // Once: a code is typed once.
    let cli = format!(
        "test \"$*\" = \"configure export-credentials --profile $EXPECTED --format process\" -a ! -e $HOME/asked || exit 9\n\
         touch $HOME/asked\necho '{PRINTED}'"
    );
    for profile in ["login", "mfa", "onward"] {
        let person =
            Person::new(&format!("cli-{profile}"), FOR_THE_CLI).with(&[("EXPECTED", profile)]).having("aws", &cli);
        check(person, &["--profile", profile], "PRINTED").await;
    }
    let chosen = [("EXPECTED", "login"), ("AWS_PROFILE", "login")];
    check(Person::new("cli-chosen", FOR_THE_CLI).with(&chosen).having("aws", &cli), &[], "PRINTED").await;
    // Neither keys in the environment nor those of a profile need it.
    check(Person::new("cli-beaten", FOR_THE_CLI).with(&chosen).with(&KEYS), &[], "ENVIRONMENT").await;
    check(Person::new("cli-keys", FOR_THE_CLI), &["--profile", "keys"], "PROFILE").await;
}

/// What is said in this situation of a profile.
async fn complaint(person: Person, profile: &str, text: &str) {
    person.runs(&[&STATUS[..], &["--profile", profile]].concat()).await.ends_with(3).complains(text);
}

#[tokio::test]
async fn without_the_aws_cli_it_says_what_to_do() {
    let alone = |name: &str| Person::new(name, FOR_THE_CLI).having("aws", "echo 'aws: not found' >&2; exit 127");
    let login = "there are no credentials: profile login: aws: not found; run: aws login --profile login";
    complaint(alone("no-cli-login"), "login", login).await;
    complaint(alone("no-cli-mfa"), "mfa", "profile mfa: aws: not found; compare: aws sts get-caller-identity --profile mfa; mfa_serial needs the AWS CLI 2 on the PATH").await;
    // As the AWS CLI 1 does.
    let old = Person::new("old-cli", FOR_THE_CLI).having("aws", "echo 'usage: aws [options] <command>' >&2; exit 2");
    complaint(old, "mfa", "profile mfa: the AWS CLI on the PATH is too old; compare: ").await;
    complaint(alone("no-cli-name"), "with blank", "only the AWS CLI can read a profile of the name \"with blank\"; run: eval \"$(aws configure export-credentials --profile 'with blank' --format env)\"").await;
}

#[tokio::test]
async fn without_credentials_it_says_where_they_may_come_from() {
    let nowhere = "there are no credentials: neither the environment nor profile default in ~/.aws/config and ~/.aws/credentials has any; choose a profile with --profile (there is none), or make one: aws login";
    Person::new("nowhere", "").runs(&STATUS).await.ends_with(3).complains(nowhere);
    complaint(
        Person::new("half", "[profile half]\naws_access_key_id = K\n"),
        "half",
        "profile missing aws_secret_access_key",
    )
    .await;
    let gone = "[profile ir]\nrole_arn = arn:aws:iam::123456789012:role/ir\nsource_profile = gone\n";
    complaint(Person::new("gone", gone), "ir", "profile ir: profile `gone` was not defined").await;
    complaint(Person::new("garbled", "[profile ir"), "ir", "the AWS configuration cannot be read: ").await;
}

const SSO: &str = "
[profile ir]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = ir
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://example.awsapps.com/start
";

#[tokio::test]
async fn an_sso_session_that_is_over_or_never_was_says_how_to_log_in() {
    let person = Person::new("sso", SSO);
    let again = "; run: aws sso login --profile ir";
    complaint(Person::new("sso-never", SSO), "ir", &format!("profile ir: failed to load the cached SSO token{again}"))
        .await;
    // sha1("corp")
    let cached = person.home.join(".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json");
    let token = r#"{"startUrl": "https://example.awsapps.com/start", "region": "us-east-1", "accessToken": "hush", "expiresAt": "2020-01-01T00:00:00Z"}"#;
    std::fs::write(cached, token).unwrap();
    complaint(person, "ir", &format!("profile ir: the SSO token has expired and cannot be refreshed{again}")).await;
}

#[tokio::test]
async fn keys_that_aws_does_not_accept_any_more_are_no_riddle() {
    let aws = MockServer::start().await;
    let expired = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>\
        <Message>The security token included in the request is expired</Message></Error></ErrorResponse>";
    Mock::given(any()).respond_with(ResponseTemplate::new(403).set_body_string(expired)).mount(&aws).await;
    let person = Person::new("expired", "").with(&KEYS).with(&[("AWS_ENDPOINT_URL", &aws.uri())]);
    let said = "AWS does not say who you are: sts:GetCallerIdentity failed: ExpiredToken: The security token included in the request is expired; get new credentials, or choose others with --profile";
    person.runs(&STATUS).await.ends_with(1).complains(said);
}

/// STS says why a role cannot be assumed.
#[tokio::test]
async fn a_role_that_cannot_be_assumed_says_what_sts_answers() {
    let aws = MockServer::start().await;
    let (status, denied) = aws_says("Action=AssumeRole");
    Mock::given(any()).respond_with(ResponseTemplate::new(status).set_body_string(denied)).mount(&aws).await;
    let role = format!("{TWO}[profile role]\nrole_arn = arn:aws:iam::123456789012:role/ir\nsource_profile = ir\n");
    let person = Person::new("role-denied", &role).with(&[("AWS_ENDPOINT_URL", &aws.uri())]);
    let said = "there are no credentials: profile role: AccessDenied: nothing but who you are; compare: aws sts get-caller-identity --profile role; if this works, run: eval ";
    complaint(person, "role", said).await;
}
