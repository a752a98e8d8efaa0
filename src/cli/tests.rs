//! Options of all commands: what is refused, and that each is an environment variable too.

use clap::error::ErrorKind;
use clap::{Args, Command, FromArgMatches};

use super::{bulk, demo, healthcheck, send};

fn parse<T: Args + FromArgMatches>(arguments: &str) -> Result<T, ErrorKind> {
    let arguments = std::iter::once("command").chain(arguments.split_whitespace());
    let matches = T::augment_args(Command::new("command")).try_get_matches_from(arguments);
    matches.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| error.kind())
}

#[test]
fn options_of_send() {
    use ErrorKind::{ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation};

    let cases = [
        ("text hello --to 1", None),
        ("text -5 --to 1 --messaging-type MESSAGE_TAG --tag HUMAN_AGENT", None),
        ("text hello --to-phone 1 --first-name A --last-name B --var a=b --var c=", None),
        ("media --type image --url http://a/b --to-comment 1", None),
        ("media --type file --attachment-id 5 --to-post 1", None),
        ("action typing_on --to-user-ref 1", None),
        ("template --payload-file - --to 1 --quick-reply Yes=YES", None),
        ("text hello --to 1 --address ftp://a", Some(ValueValidation)),
        ("text hello --to 1 --client-cert a.pem", Some(MissingRequiredArgument)),
        ("text hello", Some(MissingRequiredArgument)),
        ("text --to 1", Some(MissingRequiredArgument)),
        ("text hello --to 1 --to-phone 2", Some(ArgumentConflict)),
        ("text hello --to 1 --first-name A", Some(ArgumentConflict)),
        ("text hello --to 1 --var a", Some(ValueValidation)),
        ("text hello --to 1 --var =a", Some(ValueValidation)),
        ("text hello --to 1 --messaging-type promo", Some(InvalidValue)),
        ("media --type image --to 1", Some(MissingRequiredArgument)),
        ("media --url http://a/b --to 1", Some(MissingRequiredArgument)),
        ("media --type image --url http://a/b --attachment-id 5 --to 1", Some(ArgumentConflict)),
        ("media --type image --attachment-id 5 --reusable --to 1", Some(ArgumentConflict)),
        ("action dance --to 1", Some(InvalidValue)),
        ("template --to 1", Some(MissingRequiredArgument)),
    ];
    for (arguments, expected) in cases {
        assert_eq!(parse::<send::Options>(arguments).err(), expected, "{arguments}");
    }
}

#[test]
fn options_of_bulk() {
    use ErrorKind::{ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation};

    let cases = [
        ("a.csv --text hello", None),
        ("- --format ndjson --template-file a.json --metadata m", None),
        ("a.csv --media-url http://a/b --media-type video", None),
        ("a.csv --sender-action mark-seen", None),
        ("results sale --page-id 7 --state FAILED -o a.csv", None),
        ("status sale --json", None),
        ("./results --text hello", None),
        ("--text hello", Some(MissingRequiredArgument)),
        ("results", Some(MissingRequiredArgument)),
        ("results sale --state rejected", Some(InvalidValue)),
        ("a.csv --text hello status sale", Some(ArgumentConflict)),
        ("a.csv", Some(MissingRequiredArgument)),
        ("a.csv --media-type image", Some(MissingRequiredArgument)),
        ("a.csv --metadata m", Some(MissingRequiredArgument)),
        ("a.csv --media-url http://a/b", Some(MissingRequiredArgument)),
        ("a.csv --text hello --text-file a.txt", Some(ArgumentConflict)),
        ("a.csv --text hello --media-type image", Some(ArgumentConflict)),
        ("a.csv --sender-action mark-seen --metadata m", Some(ArgumentConflict)),
        ("a.csv --text hello --on-unknown ignore", Some(InvalidValue)),
        ("a.csv --text hello --expire-in-s soon", Some(ValueValidation)),
    ];
    for (arguments, expected) in cases {
        assert_eq!(parse::<bulk::Options>(arguments).err(), expected, "{arguments}");
    }
}

#[test]
fn every_option_is_an_environment_variable() {
    let mut commands = vec![
        bulk::Options::augment_args(Command::new("bulk")),
        demo::Options::augment_args(Command::new("demo")),
        healthcheck::Options::augment_args(Command::new("healthcheck")),
    ];
    let send = send::Options::augment_args(Command::new("send"));
    let bulk = bulk::Options::augment_args(Command::new("bulk"));
    commands.extend(send.get_subcommands().chain(bulk.get_subcommands()).cloned());
    assert_eq!(commands.len(), 9);
    for command in commands {
        for option in command.get_arguments().filter(|argument| !argument.is_positional()) {
            let name = option.get_long().unwrap();
            let expected = format!("CONNECTOR_{}", name.replace('-', "_").to_uppercase());
            let variable = option.get_env().unwrap_or_default();
            assert_eq!(variable.to_string_lossy(), expected, "{} --{name}", command.get_name());
        }
    }
}
