//! The service by which tools ask what a server has (`grpc.reflection.v1`, and `v1alpha` for those that know no other).

use std::{collections::BTreeMap, fmt, sync::Arc};

use prost::{Message, bytes::Bytes};

use crate::{
    server::{Call, Replies, Requests, Service},
    status::{Code, Status},
};

/// What a server has, for tools that ask: `grpcurl`, Postman, the command line of grpcio.
///
/// It is made of descriptors, which the build script writes: `maniple_grpc_build::compile` puts them into
/// `FILE_DESCRIPTOR_SET` of the module that it generates.
///
/// # Examples
/// ```
/// # const FILE_DESCRIPTOR_SET: &[u8] = &[];
/// use maniple_grpc::Reflection;
/// let reflection = Reflection::new().files(FILE_DESCRIPTOR_SET)?;
/// let router = reflection.into_router();
/// # let _: maniple_server::Router = router;
/// # Ok::<_, maniple_grpc::Status>(())
/// ```
#[derive(Clone, Default)]
pub struct Reflection {
    /// By their names, with the names of what they import.
    files: BTreeMap<String, File>,
    /// Which file has which symbol.
    symbols: BTreeMap<String, String>,
    /// Which file extends which message, by which number.
    extensions: BTreeMap<(String, i32), String>,
    services: Vec<String>,
}

#[derive(Clone)]
struct File {
    bytes: Bytes,
    imports: Vec<String>,
}

impl Reflection {
    /// One that tells of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the files of a `FileDescriptorSet`. One of a name that is there already is left out.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is none.
    pub fn files(mut self, set: &[u8]) -> Result<Self, Status> {
        let wrong = |error: prost::DecodeError| {
            Status::new(Code::InvalidArgument, format!("no descriptors: {error}"))
        };
        for bytes in RawSet::decode(set).map_err(wrong)?.files {
            let file = Descriptor::decode(bytes.clone()).map_err(wrong)?;
            if !self.files.contains_key(&file.name) {
                self.add(file, bytes);
            }
        }
        Ok(self)
    }

    fn add(&mut self, file: Descriptor, bytes: Bytes) {
        let name = &file.name;
        for message in &file.messages {
            self.add_message(&join(&file.package, &message.name), message, name);
        }
        for named in &file.enums {
            self.add_symbol(join(&file.package, &named.name), name);
        }
        for extension in &file.extensions {
            self.add_extension(extension, name);
            self.add_symbol(join(&file.package, &extension.name), name);
        }
        for service in &file.services {
            let full = join(&file.package, &service.name);
            for method in &service.methods {
                self.add_symbol(join(&full, &method.name), name);
            }
            self.add_symbol(full.clone(), name);
            self.services.push(full);
        }
        let imports = file.imports;
        self.files.insert(file.name, File { bytes, imports });
    }

    fn add_message(&mut self, full: &str, message: &MessageDescriptor, file: &str) {
        for field in &message.fields {
            self.add_symbol(join(full, &field.name), file);
        }
        for named in &message.enums {
            self.add_symbol(join(full, &named.name), file);
        }
        for extension in &message.extensions {
            self.add_extension(extension, file);
            self.add_symbol(join(full, &extension.name), file);
        }
        // As deep as prost decodes, which is a hundred.
        for nested in &message.messages {
            self.add_message(&join(full, &nested.name), nested, file);
        }
        self.add_symbol(full.to_owned(), file);
    }

    fn add_symbol(&mut self, symbol: String, file: &str) {
        self.symbols.insert(symbol, file.to_owned());
    }

    fn add_extension(&mut self, field: &FieldDescriptor, file: &str) {
        let extended = field.extendee.trim_start_matches('.').to_owned();
        self.extensions
            .insert((extended, field.number), file.to_owned());
    }

    /// Both versions of the service, to be merged with the services that it tells of.
    pub fn into_router(self) -> maniple_server::Router {
        let shared = Arc::new(self);
        let [v1, alpha] = ["grpc.reflection.v1.ServerReflection", ALPHA].map(|name| {
            let shared = shared.clone();
            let service = Service::new(name).streaming(
                "ServerReflectionInfo",
                move |_: &mut Call,
                      requests: &mut Requests<'_, Asked>,
                      replies: &mut Replies<'_, '_, Answer>| {
                    for asked in requests {
                        replies.send(&shared.answer(asked?))?;
                    }
                    Ok::<_, Status>(())
                },
            );
            service.into_router()
        });
        v1.merge(alpha)
    }

    fn answer(&self, asked: Asked) -> Answer {
        let said = match &asked.question {
            Some(Question::File(name)) => self.with_imports(self.files.get_key_value(name)),
            Some(Question::Symbol(symbol)) => {
                let file = self.symbols.get(symbol.trim_start_matches('.'));
                self.with_imports(file.and_then(|file| self.files.get_key_value(file)))
            }
            Some(Question::Extension(wanted)) => {
                let of = (wanted.containing.clone(), wanted.number);
                let file = self.extensions.get(&of);
                self.with_imports(file.and_then(|file| self.files.get_key_value(file)))
            }
            Some(Question::ExtensionsOf(message)) => {
                let of = self
                    .extensions
                    .keys()
                    .filter(|(extended, _)| extended == message);
                let numbers: Vec<_> = of.map(|(_, number)| *number).collect();
                match !numbers.is_empty() || self.symbols.contains_key(message) {
                    true => Said::Numbers(Numbers {
                        base: message.clone(),
                        numbers,
                    }),
                    false => not_found(),
                }
            }
            Some(Question::Services(_)) => Said::Services(Services {
                services: self
                    .services
                    .iter()
                    .cloned()
                    .map(|name| Named { name })
                    .collect(),
            }),
            None => Said::Failure(Failure {
                code: Code::InvalidArgument as i32,
                message: "nothing is asked".to_owned(),
            }),
        };
        Answer {
            host: asked.host.clone(),
            asked: Some(asked),
            said: Some(said),
        }
    }

    /// A file, and all that it imports, each once and the first first.
    fn with_imports(&self, file: Option<(&String, &File)>) -> Said {
        let Some((name, file)) = file else {
            return not_found();
        };
        let mut names = vec![name];
        let mut files = vec![file.bytes.clone()];
        let mut at = 0;
        while let Some(file) = names.get(at).and_then(|name| self.files.get(*name)) {
            for import in &file.imports {
                if let Some((name, file)) = self.files.get_key_value(import)
                    && !names.contains(&name)
                {
                    names.push(name);
                    files.push(file.bytes.clone());
                }
            }
            at += 1;
        }
        Said::Files(Files { files })
    }
}

fn join(outer: &str, inner: &str) -> String {
    match outer.is_empty() {
        true => inner.to_owned(),
        false => format!("{outer}.{inner}"),
    }
}

fn not_found() -> Said {
    Said::Failure(Failure {
        code: Code::NotFound as i32,
        message: "nothing of that name is known here".to_owned(),
    })
}

const ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

impl fmt::Debug for Reflection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflection")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// A `FileDescriptorSet` whose files are left as they are.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

/// Of a `FileDescriptorProto`, what is needed here.
#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    imports: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<MessageDescriptor>,
    #[prost(message, repeated, tag = "5")]
    enums: Vec<Named>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<ServiceDescriptor>,
    #[prost(message, repeated, tag = "7")]
    extensions: Vec<FieldDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<FieldDescriptor>,
    #[prost(message, repeated, tag = "3")]
    messages: Vec<MessageDescriptor>,
    #[prost(message, repeated, tag = "4")]
    enums: Vec<Named>,
    #[prost(message, repeated, tag = "6")]
    extensions: Vec<FieldDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    extendee: String,
    #[prost(int32, tag = "3")]
    number: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    File(String),
    #[prost(string, tag = "4")]
    Symbol(String),
    #[prost(message, tag = "5")]
    Extension(Extension),
    #[prost(string, tag = "6")]
    ExtensionsOf(String),
    #[prost(string, tag = "7")]
    Services(String),
}

#[derive(Clone, PartialEq, Message)]
struct Extension {
    #[prost(string, tag = "1")]
    containing: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    asked: Option<Asked>,
    #[prost(oneof = "Said", tags = "4, 5, 6, 7")]
    said: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Said {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "5")]
    Numbers(Numbers),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Failure(Failure),
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Numbers {
    #[prost(string, tag = "1")]
    base: String,
    #[prost(int32, repeated, tag = "2")]
    numbers: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Failure {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}
