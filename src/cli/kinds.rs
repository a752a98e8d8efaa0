//! The contract's enums as values of options. Meta's spelling (`MESSAGE_TAG`) is taken as well as the command
//! line's (`message-tag`).

use clap::ValueEnum;

use messenger_connector_client::v1;

/// Why the message may be sent
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessagingType {
    /// An answer, within 24 hours of the person's message
    Response,
    /// The page's own initiative, within 24 hours of the person's message
    Update,
    /// Outside the 24-hour window; needs --tag
    #[value(alias = "message_tag")]
    MessageTag,
    /// A utility template that Meta approved
    Utility,
}

impl From<MessagingType> for v1::MessagingType {
    fn from(value: MessagingType) -> Self {
        match value {
            MessagingType::Response => Self::Response,
            MessagingType::Update => Self::Update,
            MessagingType::MessageTag => Self::MessageTag,
            MessagingType::Utility => Self::Utility,
        }
    }
}

/// How the recipient's device announces the message
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NotificationType {
    /// Sound and vibration
    Regular,
    /// On the screen only
    #[value(alias = "silent_push")]
    SilentPush,
    /// Not at all
    #[value(alias = "no_push")]
    NoPush,
}

impl From<NotificationType> for v1::NotificationType {
    fn from(value: NotificationType) -> Self {
        match value {
            NotificationType::Regular => Self::Regular,
            NotificationType::SilentPush => Self::SilentPush,
            NotificationType::NoPush => Self::NoPush,
        }
    }
}

/// Kind of media
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MediaType {
    /// By address at most 8 MB
    Image,
    /// At most 25 MB
    Audio,
    /// At most 25 MB
    Video,
    /// At most 25 MB
    File,
}

impl From<MediaType> for v1::media_message::Type {
    fn from(value: MediaType) -> Self {
        match value {
            MediaType::Image => Self::Image,
            MediaType::Audio => Self::Audio,
            MediaType::Video => Self::Video,
            MediaType::File => Self::File,
        }
    }
}

/// A sign of life shown in place of a message
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SenderAction {
    /// Shows the typing indicator
    #[value(alias = "typing_on")]
    TypingOn,
    /// Removes the typing indicator
    #[value(alias = "typing_off")]
    TypingOff,
    /// Marks the recipient's last message as seen
    #[value(alias = "mark_seen")]
    MarkSeen,
}

impl From<SenderAction> for v1::sender_action::Type {
    fn from(value: SenderAction) -> Self {
        match value {
            SenderAction::TypingOn => Self::TypingOn,
            SenderAction::TypingOff => Self::TypingOff,
            SenderAction::MarkSeen => Self::MarkSeen,
        }
    }
}

/// What to do with items whose outcome is on record as unknown
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnUnknown {
    /// Report them as unknown again, send nothing
    Report,
    /// Send them again: some may then arrive twice
    Resend,
}

impl From<OnUnknown> for v1::bulk_start::OnUnknown {
    fn from(value: OnUnknown) -> Self {
        match value {
            OnUnknown::Report => Self::Report,
            OnUnknown::Resend => Self::Resend,
        }
    }
}

/// States of items that leave a record
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordedState {
    /// Graph accepted the message
    Sent,
    /// Graph refused it
    Failed,
    /// It may have been sent
    Unknown,
}

impl From<RecordedState> for v1::ItemState {
    fn from(value: RecordedState) -> Self {
        match value {
            RecordedState::Sent => Self::Sent,
            RecordedState::Failed => Self::Failed,
            RecordedState::Unknown => Self::Unknown,
        }
    }
}

/// What the recipients of an audience are
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecipientKind {
    /// Page-scoped ids (PSID)
    Id,
    /// Phone numbers with country code
    Phone,
    /// References from the checkbox plugin
    UserRef,
    /// Comments to answer in private
    CommentId,
    /// Visitors' posts to answer in private
    PostId,
}

impl RecipientKind {
    /// The recipient with this identifier.
    pub(super) fn recipient(self, identifier: String) -> v1::Recipient {
        use v1::recipient::Identifier;

        let identifier = match self {
            Self::Id => Identifier::Id(identifier),
            Self::Phone => Identifier::Phone(v1::PhoneRecipient {
                phone_number: identifier,
                ..v1::PhoneRecipient::default()
            }),
            Self::UserRef => Identifier::UserRef(identifier),
            Self::CommentId => Identifier::CommentId(identifier),
            Self::PostId => Identifier::PostId(identifier),
        };
        v1::Recipient { identifier: Some(identifier) }
    }
}
