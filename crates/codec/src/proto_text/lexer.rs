//! Cuts a protobuf text into tokens. Knows nothing of messages and fields.
//!
//! Works on bytes: comments can hold anything, string literals any byte except newline and NUL.
//! Error texts and the byte each one points at are those of protobuf's `io::Tokenizer`.

/// An error, and the byte of the text that it points at.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    End,
    Identifier,
    /// Decimal, `0x` hexadecimal or `0` octal, without a sign.
    Integer,
    Float,
    String,
    /// One ASCII character.
    Symbol,
}

#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    /// As it is written in the text.
    pub(super) text: &'a [u8],
    pub(super) offset: usize,
    /// The unescaped bytes of a string literal.
    pub(super) string: Vec<u8>,
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next token. After the end of the text always [`TokenKind::End`].
    pub(super) fn next(&mut self) -> Result<Token<'a>, Fault> {
        self.skip_blanks_and_comments();
        let offset = self.at;
        let mut string = Vec::new();
        let kind = match self.peek() {
            None => TokenKind::End,
            Some(byte) if byte == b'_' || byte.is_ascii_alphabetic() => {
                self.skip_while(is_identifier_byte);
                TokenKind::Identifier
            }
            Some(byte) if byte.is_ascii_digit() => self.number()?,
            Some(b'.') if self.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) => {
                self.number()?
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                self.string(quote, &mut string)?;
                TokenKind::String
            }
            Some(byte) if byte < b' ' => {
                return self.fault("Invalid control characters encountered in text.");
            }
            Some(byte) if !byte.is_ascii() => {
                return self.fault(format!("Interpreting non ascii codepoint {byte}."));
            }
            Some(_) => {
                self.at += 1;
                TokenKind::Symbol
            }
        };
        Ok(Token {
            kind,
            text: &self.text[offset..self.at],
            offset,
            string,
        })
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.skip_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r'));
            if self.peek() != Some(b'#') {
                return;
            }
            self.skip_while(|byte| byte != b'\n');
        }
    }

    fn number(&mut self) -> Result<TokenKind, Fault> {
        let kind = match (self.peek(), self.peek_at(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => {
                self.at += 2;
                self.digits(
                    |byte| byte.is_ascii_hexdigit(),
                    "\"0x\" must be followed by hex digits.",
                )?;
                TokenKind::Integer
            }
            (Some(b'0'), Some(byte)) if byte.is_ascii_digit() => {
                self.skip_while(|byte| matches!(byte, b'0'..=b'7'));
                if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                    return self.fault("Numbers starting with leading zero must be in octal.");
                }
                TokenKind::Integer
            }
            _ => self.decimal()?,
        };
        match self.peek() {
            Some(byte) if byte == b'_' || byte.is_ascii_alphabetic() => {
                self.fault("Need space between number and identifier.")
            }
            Some(b'.') if kind == TokenKind::Float => {
                self.fault("Already saw decimal point or exponent; can't have another one.")
            }
            Some(b'.') => self.fault("Hex and octal numbers must be integers."),
            _ => Ok(kind),
        }
    }

    fn decimal(&mut self) -> Result<TokenKind, Fault> {
        let mut kind = TokenKind::Integer;
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
            kind = TokenKind::Float;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits(
                |byte| byte.is_ascii_digit(),
                "\"e\" must be followed by exponent.",
            )?;
            kind = TokenKind::Float;
        }
        if matches!(self.peek(), Some(b'f' | b'F')) {
            self.at += 1;
            kind = TokenKind::Float;
        }
        Ok(kind)
    }

    /// Reads the rest of a literal, starting after its opening quote.
    fn string(&mut self, quote: u8, into: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            match self.peek() {
                // For protobuf's tokenizer NUL ends the text.
                None | Some(0) => return self.fault("Unexpected end of string."),
                Some(b'\n') => {
                    return self.fault("Multiline strings are not allowed. Did you miss a \"?.");
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(into)?;
                }
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        return Ok(());
                    }
                    into.push(byte);
                }
            }
        }
    }

    /// Reads one escape sequence, starting after its backslash.
    fn escape(&mut self, into: &mut Vec<u8>) -> Result<(), Fault> {
        let byte = match self.peek() {
            Some(b'a') => 0x07,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 0x0b,
            Some(byte @ (b'\\' | b'?' | b'\'' | b'"')) => byte,
            Some(b'0'..=b'7') => {
                into.push(self.octal_escape());
                return Ok(());
            }
            Some(b'x' | b'X') => return self.hex_escape(into),
            Some(b'u') => return self.unicode_escape(4, into),
            Some(b'U') => return self.unicode_escape(8, into),
            _ => return self.fault("Invalid escape sequence in string literal."),
        };
        self.at += 1;
        into.push(byte);
        Ok(())
    }

    /// Reads up to three digits. As in protobuf, the ninth bit of `\400` and above is lost.
    fn octal_escape(&mut self) -> u8 {
        let mut value = 0u8;
        for _ in 0..3 {
            let Some(digit @ b'0'..=b'7') = self.peek() else {
                break;
            };
            value = value.wrapping_mul(8).wrapping_add(digit - b'0');
            self.at += 1;
        }
        value
    }

    fn hex_escape(&mut self, into: &mut Vec<u8>) -> Result<(), Fault> {
        self.at += 1;
        let Some(first) = self.hex_digit() else {
            return self.fault("Expected hex digits for escape sequence.");
        };
        let value = match self.hex_digit() {
            Some(second) => first * 16 + second,
            None => first,
        };
        into.push(value as u8);
        Ok(())
    }

    /// Reads `\uXXXX`, where two surrogates in a row make one character, or `\UXXXXXXXX`.
    fn unicode_escape(&mut self, digits: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let mut value = self.code_point(digits)?;
        if (0xd800..0xdc00).contains(&value) && self.text[self.at..].starts_with(b"\\u") {
            self.at += 1;
            let low = self.code_point(4)?;
            if (0xdc00..0xe000).contains(&low) {
                value = 0x1_0000 + ((value - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        match char::from_u32(value) {
            Some(character) => {
                into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                Ok(())
            }
            None => self.fault("Invalid code point in string literal."),
        }
    }

    fn code_point(&mut self, digits: usize) -> Result<u32, Fault> {
        self.at += 1;
        let mut value = 0;
        for _ in 0..digits {
            let Some(digit) = self.hex_digit() else {
                return self.fault(if digits == 4 {
                    "Expected four hex digits for \\u escape sequence."
                } else {
                    "Expected eight hex digits up to 10ffff for \\U escape sequence"
                });
            };
            value = value << 4 | digit;
        }
        Ok(value)
    }

    fn hex_digit(&mut self) -> Option<u32> {
        let digit = char::from(self.peek()?).to_digit(16)?;
        self.at += 1;
        Some(digit)
    }

    /// Reads one or more digits.
    fn digits(&mut self, is_digit: fn(u8) -> bool, missing: &str) -> Result<(), Fault> {
        if !self.peek().is_some_and(is_digit) {
            return self.fault(missing);
        }
        self.skip_while(is_digit);
        Ok(())
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn fault<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            offset: self.at,
            reason: reason.into(),
        })
    }
}

fn is_identifier_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}
