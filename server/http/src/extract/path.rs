//! Path parameters, by the types of what they are to be.

use std::fmt;

use http::StatusCode;
use maniple::{log_limit::LogLimit, log_within};
use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess,
        SeqAccess, VariantAccess, Visitor, value::StrDeserializer,
    },
};

use super::{FromHead, problem_of};
use crate::{problem::Problem, request::Request};

/// The path parameters, decoded: one as a value (`Path<u32>`), several in their order as a tuple, or by their names as the
/// fields of a struct.
///
/// One that is wrong is rejected with 400, which names it. If the type does not fit the route, which takes other
/// parameters, the answer is 500 and the log has an error. With `Option` a route without parameters is `None`.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, extract::Path};
///
/// #[derive(serde::Deserialize)]
/// struct Day {
///     year: u16,
///     month: u8,
/// }
///
/// let router = Router::new()
///     .get("/users/{id}", |Path(id): Path<u64>| format!("user {id}"))
///     .get("/of/{name}/{number}", |Path((name, number)): Path<(String, u8)>| format!("{name} {number}"))
///     .get("/days/{year}/{month}", |Path(day): Path<Day>| format!("{} in {}", day.month, day.year));
/// let get = |path| router.answer(&mut Request::for_test("GET", path)).into_text().unwrap();
/// assert_eq!(get("/users/7"), "user 7");
/// assert_eq!(get("/of/a%20b/7"), "a b 7");
/// assert_eq!(get("/days/2026/5"), "5 in 2026");
/// assert_eq!(get("/days/2026/May"), "month: invalid digit found in string\n");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned> FromHead for Path<T> {
    type Rejection = Problem;

    fn from_head(request: &Request) -> Result<Self, Problem> {
        let all = All(request.params());
        match T::deserialize(all) {
            Ok(value) => Ok(Self(value)),
            Err(Error { of: None, message }) => Err(misfit::<T>(request, &message)),
            Err(Error {
                of: Some(field),
                message,
            }) => Err(problem_of(StatusCode::BAD_REQUEST, &field, message)),
        }
    }

    fn is_absent(request: &Request) -> bool {
        request.params().next().is_none()
    }
}

/// The program's own mistake.
#[cold]
fn misfit<T>(request: &Request, message: &str) -> Problem {
    static RATE: LogLimit = LogLimit::new(1);
    let (route, of) = (
        request.route().unwrap_or("no route"),
        std::any::type_name::<T>(),
    );
    log_within!(
        RATE,
        error,
        "Path<{of}> does not fit the route {route}: {message}"
    );
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
}

/// What is wrong, with which parameter.
#[derive(Debug)]
struct Error {
    of: Option<String>,
    message: String,
}

impl Error {
    fn within(mut self, name: &str) -> Self {
        self.of.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<M: fmt::Display>(message: M) -> Self {
        let message = message.to_string();
        Self { of: None, message }
    }
}

/// All parameters.
#[derive(Clone)]
struct All<P>(P);

impl<'de, P: Iterator<Item = (&'de str, &'de str)> + Clone> All<P> {
    fn only(mut self) -> Result<(&'de str, One<'de>), Error> {
        let several = || de::Error::custom("it takes one parameter, and the route has others");
        match (self.0.next(), self.0.next()) {
            (Some((name, value)), None) => Ok((name, One(value))),
            _ => Err(several()),
        }
    }

    fn count(&self) -> usize {
        self.0.clone().count()
    }
}

macro_rules! as_the_only_one {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let (name, one) = self.only()?;
            one.$method(visitor).map_err(|error| error.within(name))
        }
    )*};
}

impl<'de, P: Iterator<Item = (&'de str, &'de str)> + Clone> Deserializer<'de> for All<P> {
    type Error = Error;

    as_the_only_one!(
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_option,
        deserialize_identifier
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.count() {
            1 => self.deserialize_str(visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Each {
            left: self.0,
            value: None,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let count = self.count();
        if count != length {
            let message = format!("it takes {length} parameters, and the route has {count}");
            return Err(de::Error::custom(message));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Each {
            left: self.0,
            value: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (of, one) = self.only()?;
        let value = one.deserialize_enum(name, variants, visitor);
        value.map_err(|error| error.within(of))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// One after the other.
struct Each<'de, P> {
    left: P,
    /// The one whose name was given out.
    value: Option<(&'de str, &'de str)>,
}

impl<'de, P: Iterator<Item = (&'de str, &'de str)>> SeqAccess<'de> for Each<'de, P> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((name, value)) = self.left.next() else {
            return Ok(None);
        };
        let value = seed.deserialize(One(value));
        value.map(Some).map_err(|error| error.within(name))
    }
}

impl<'de, P: Iterator<Item = (&'de str, &'de str)>> MapAccess<'de> for Each<'de, P> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.left.next();
        let Some((name, _)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(One(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.value.take().unwrap_or_default();
        seed.deserialize(One(value))
            .map_err(|error| error.within(name))
    }
}

/// One value.
struct One<'de>(&'de str);

macro_rules! parsed {
    ($($method:ident $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.0.parse().map_err(de::Error::custom)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for One<'de> {
    type Error = Error;

    parsed!(
        deserialize_bool visit_bool, deserialize_i8 visit_i8, deserialize_i16 visit_i16,
        deserialize_i32 visit_i32, deserialize_i64 visit_i64, deserialize_i128 visit_i128,
        deserialize_u8 visit_u8, deserialize_u16 visit_u16, deserialize_u32 visit_u32,
        deserialize_u64 visit_u64, deserialize_u128 visit_u128, deserialize_f32 visit_f32,
        deserialize_f64 visit_f64, deserialize_char visit_char
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.0.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.0.as_bytes())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        str string unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for One<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for One<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        Err(de::Error::custom("a parameter is no variant with a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("a parameter is no variant with values"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("a parameter is no variant with fields"))
    }
}
