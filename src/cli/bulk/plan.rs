//! What the options of `bulk` say: an audience, a start frame, a results file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::ValueEnum;
use messenger_connector_client::v1;
use messenger_connector_client::v1::action::Kind;
use prost::Message;
use sha2::{Digest, Sha256};

use super::audience::{Audience, Columns, Format, Source};
use super::options::{ActionOptions, RECIPIENT_COLUMN_DEFAULT, SendOptions};
use super::results::ResultsFile;
use crate::cli::kinds::RecipientKind;
use crate::cli::message_options::read_text;

/// Bytes of a hash that name a bulk.
const NAME_BYTES: usize = 16;
/// Bytes of an audience that are read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A bulk that can be run.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    pub(super) audience: Audience,
    pub(super) start: v1::BulkStart,
    pub(in crate::cli) results: ResultsFile,
    /// The bulk is named by its message and the audience's content.
    pub(super) is_named_by_content: bool,
    /// How long to try for a new stream, after one that ended early, without any result.
    pub(super) reconnect_timeout: Duration,
}

impl Plan {
    /// One text for a CSV audience, with defaults for everything else, and without reconnecting.
    pub(in crate::cli) fn text(audience: PathBuf, text: &str, results: ResultsFile) -> Self {
        let columns = Columns {
            recipient: RECIPIENT_COLUMN_DEFAULT.to_owned(),
            recipient_kind: RecipientKind::Id,
            item_id: None,
        };
        let text = v1::TextMessage { text: text.to_owned(), extras: None };
        let options = v1::SendOptions {
            messaging_type: v1::MessagingType::Update.into(),
            ..v1::SendOptions::default()
        };
        Self {
            audience: Audience { source: Source::File(audience), format: Format::Csv, columns },
            start: v1::BulkStart {
                action: Some(v1::Action { kind: Some(Kind::Text(text)) }),
                options: Some(options),
                ..v1::BulkStart::default()
            },
            results,
            is_named_by_content: false,
            reconnect_timeout: Duration::ZERO,
        }
    }

    /// Names a bulk that has no name by its message and the content of its audience, so that the same command resumes it,
    /// and sends to nobody twice. What can be read once only, such as standard input, gets no name here.
    ///
    /// # Errors
    /// If the audience cannot be read.
    pub(super) fn name_by_content(&mut self) -> anyhow::Result<()> {
        let Source::File(path) = &self.audience.source else { return Ok(()) };
        let place = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(place)?;
        if !self.start.bulk_id.is_empty() || !file.metadata().with_context(place)?.is_file() {
            return Ok(());
        }
        // Without what says how the bulk runs.
        let v1::BulkStart { page_id, action, options, .. } = self.start.clone();
        let message = v1::BulkStart { page_id, action, options, ..v1::BulkStart::default() };
        let Columns { recipient, recipient_kind, item_id } = &self.audience.columns;
        let (format, kind) = (value_name(self.audience.format), value_name(*recipient_kind));
        let mut hash = Sha256::new();
        hash.update(message.encode_length_delimited_to_vec());
        for text in [format.as_str(), &kind, recipient, item_id.as_deref().unwrap_or_default()] {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        update_with(&mut hash, file).with_context(place)?;
        self.start.bulk_id = format!("audience-{}", hex::encode(&hash.finalize()[..NAME_BYTES]));
        self.is_named_by_content = true;
        Ok(())
    }

    /// The audience's file.
    pub(in crate::cli) fn audience_name(&self) -> String {
        match &self.audience.source {
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "-".to_owned(),
        }
    }
}

/// As the command line has it.
fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn update_with(hash: &mut Sha256, file: File) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    loop {
        let bytes = reader.fill_buf()?;
        let count = bytes.len();
        if count == 0 {
            return Ok(());
        }
        hash.update(bytes);
        reader.consume(count);
    }
}

impl SendOptions {
    /// The plan for an audience.
    ///
    /// # Errors
    /// If the format is not known, or a file that an option names cannot be used.
    pub(super) fn plan(&self, file: &Path) -> anyhow::Result<Plan> {
        let source = match file {
            path if path == Path::new("-") => Source::Stdin,
            path => Source::File(path.to_owned()),
        };
        let audience = Audience {
            format: self.audience.format.map_or_else(|| Format::of(file), Ok)?,
            columns: Columns {
                recipient: self.audience.recipient_column.clone(),
                recipient_kind: self.audience.recipient_kind,
                item_id: self.audience.item_id_column.clone(),
            },
            source,
        };
        let expire_in = self.run.expire_in_s.map(|seconds| Duration::from_secs(seconds.into()));
        let start = v1::BulkStart {
            bulk_id: self.run.bulk_id.clone().unwrap_or_default(),
            page_id: self.message.page_id.clone().unwrap_or_default(),
            action: Some(v1::Action { kind: self.action.kind()? }),
            options: Some(self.message.send_options()),
            expire_time: expire_in
                .and_then(|expire_in| SystemTime::now().checked_add(expire_in))
                .map(Into::into),
            on_unknown: v1::bulk_start::OnUnknown::from(self.run.on_unknown).into(),
            ..v1::BulkStart::default()
        };
        let results = ResultsFile {
            path: self.run.results.clone().unwrap_or_else(|| ResultsFile::path_for(&audience.source)),
            overwrite: self.run.overwrite,
        };
        let reconnect_timeout = Duration::from_secs(self.run.reconnect_timeout_s.into());
        Ok(Plan { audience, start, results, is_named_by_content: false, reconnect_timeout })
    }
}

impl ActionOptions {
    fn kind(&self) -> anyhow::Result<Option<Kind>> {
        let extras = self
            .metadata
            .clone()
            .map(|metadata| v1::MessageExtras { metadata, ..v1::MessageExtras::default() });
        if let Some(text) = &self.text {
            return Ok(Some(Kind::Text(v1::TextMessage { text: text.clone(), extras })));
        }
        if let Some(path) = &self.text_file {
            // Editors end a file with a newline that is not meant to be sent.
            let text = read_text(path)?.trim_end_matches(['\r', '\n']).to_owned();
            return Ok(Some(Kind::Text(v1::TextMessage { text, extras })));
        }
        if let Some(path) = &self.template_file {
            let content = v1::template_message::Content::PayloadJson(read_text(path)?);
            return Ok(Some(Kind::Template(v1::TemplateMessage { content: Some(content), extras })));
        }
        if let Some(action) = self.sender_action {
            let action = v1::sender_action::Type::from(action);
            return Ok(Some(Kind::SenderAction(v1::SenderAction { r#type: action.into() })));
        }
        let url = self.media_url.clone().map(v1::media_message::Source::Url);
        let held = self.attachment_id.clone().map(v1::media_message::Source::AttachmentId);
        Ok(self.media_type.map(|media_type| {
            Kind::Media(v1::MediaMessage {
                r#type: v1::media_message::Type::from(media_type).into(),
                source: url.or(held),
                is_reusable: None,
                extras,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Plan);

    /// What is sent, and to whom, is the bulk; how it runs is not.
    #[test]
    fn the_same_command_is_the_same_bulk() {
        let folder = tempfile::tempdir().unwrap();
        let name_of = |rows: &str, text: &str, change: Change| {
            let file = folder.path().join("audience.csv");
            std::fs::write(&file, rows).unwrap();
            let results = ResultsFile { path: folder.path().join("results.csv"), overwrite: true };
            let mut plan = Plan::text(file, text, results);
            change(&mut plan);
            plan.name_by_content().unwrap();
            (plan.start.bulk_id, plan.is_named_by_content)
        };
        let name = name_of("recipient\n1\n", "Hello", |_| {});
        assert!(name.0.starts_with("audience-") && name.0.len() <= 128 && name.1, "{name:?}");
        let cases: [(&str, &str, Change, bool); 8] = [
            ("recipient\n1\n", "Hello", |plan| plan.start.expire_time = Some(SystemTime::now().into()), true),
            ("recipient\n1\n", "Hello", |plan| plan.start.on_unknown = 2, true),
            ("recipient\n2\n", "Hello", |_| {}, false),
            ("recipient\n1\n", "Hello!", |_| {}, false),
            ("recipient\n1\n", "Hello", |plan| plan.start.page_id = "7".to_owned(), false),
            ("recipient\n1\n", "Hello", |plan| plan.start.options = None, false),
            (
                "recipient\n1\n",
                "Hello",
                |plan| plan.audience.columns.recipient_kind = RecipientKind::Phone,
                false,
            ),
            ("recipient\n1\n", "Hello", |plan| plan.audience.columns.item_id = Some("id".to_owned()), false),
        ];
        for (number, (rows, text, change, is_same)) in cases.into_iter().enumerate() {
            assert_eq!(name_of(rows, text, change) == name, is_same, "{number}");
        }
        let named = name_of("recipient\n1\n", "Hello", |plan| plan.start.bulk_id = "sale".to_owned());
        assert_eq!(named, ("sale".to_owned(), false));
        let unnamed = name_of("recipient\n1\n", "Hello", |plan| plan.audience.source = Source::Stdin);
        assert_eq!(unnamed, (String::new(), false), "it can be read once only");
    }
}
