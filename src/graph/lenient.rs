//! JSON values that are read each for itself: an odd one counts as absent and costs nothing but itself.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A text, number or truth value; whatever else stands there is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Null, or nothing that can be read.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Bool(bool),
}

impl<'a> Scalar<'a> {
    /// The text, or a number's digits; empty if absent.
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string().into(),
            Self::Absent | Self::Float(_) | Self::Bool(_) => Cow::default(),
        }
    }

    /// The whole number, also one that is written as text.
    pub(super) fn integer<T: TryFrom<i64>>(&self) -> Option<T> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Absent | Self::Float(_) | Self::Bool(_) => return None,
        };
        T::try_from(number).ok()
    }

    /// The number, also one that is written as text; 0 if absent.
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Integer(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Text(text) => text.trim().parse().unwrap_or_default(),
            Self::Absent | Self::Bool(_) => 0.0,
        }
    }

    /// True if it says so in some way.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Bool(is_true) => *is_true,
            Self::Text(text) => text.eq_ignore_ascii_case("true") || text == "1",
            Self::Integer(number) => *number == 1,
            Self::Absent | Self::Float(_) => false,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

struct ScalarVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ScalarVisitor<'a> {
    type Value = Scalar<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        // Ids have up to twenty digits: as a text none is lost.
        Ok(i64::try_from(number).map_or_else(|_| Scalar::Text(number.to_string().into()), Scalar::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E: Error>(self, is_true: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(is_true))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Absent)
    }
}

/// An object that is read, or something else that is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Object<T> {
    /// Null.
    #[default]
    Absent,
    /// No object.
    Odd,
    Read(T),
}

impl<T> Object<T> {
    pub(super) fn read(self) -> Option<T> {
        match self {
            Self::Read(read) => Some(read),
            Self::Absent | Self::Odd => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The visits of a visitor to whom every plain value is odd, and null is absent.
macro_rules! plain_values_are_odd {
    () => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("any value")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Object::Absent)
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Object::Odd)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Object::Odd)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Object::Odd)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Object::Odd)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Object::Odd)
        }
    };
}

/// Reads each object of a list. What is no list has none.
pub(super) fn each_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    each: impl FnMut(T),
) -> Result<(), D::Error> {
    deserializer.deserialize_any(ListVisitor(each, PhantomData)).map(|_: Object<()>| ())
}

struct ListVisitor<F, T>(F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for ListVisitor<F, T> {
    type Value = Object<()>;

    plain_values_are_odd!();

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        ScalarVisitor(PhantomData).visit_map(map).map(|_| Object::Odd)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        while let Some(element) = list.next_element::<Object<T>>()? {
            element.read().map(&mut self.0);
        }
        Ok(Object::Read(()))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    plain_values_are_odd!();

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object::Read)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        ScalarVisitor(PhantomData).visit_seq(list).map(|_| Object::Odd)
    }
}
