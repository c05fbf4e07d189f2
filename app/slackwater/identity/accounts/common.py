"""Passwords that whoever guesses tries first. Shorter ones than eight characters are refused anyway."""

from __future__ import annotations

_WORDS = """
00000000 11111111 22222222 33333333 44444444 55555555 66666666 77777777 88888888 99999999
12345678 123456789 1234567890 12345678910 0123456789 0987654321 87654321 987654321 12341234 11223344 123123123 12121212
123321123 147258369 159357258 321321321 789456123 13131313 31415926
1234qwer 12345qwert 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qazxsw2 3edc4rfv q1w2e3r4 q1w2e3r4t5 zaq12wsx zaq1zaq1 qwer1234
qwerty12 qwerty123 qwerty1234 qwerty12345 qwertyui qwertyuiop asdfasdf asdfghjk asdfghjkl asdf1234 zxcvbnm1 zxcvbnm123 poiuytrewq
a1234567 a12345678 a123456789 aa123456 aa12345678 aaaaaaaa abc12345 abc123456 abcd1234 abcdefgh abcdefghi abcdabcd
password password! password0 password1 password1! password12 password123 password1234 passw0rd p@ssw0rd p@ssword pa$$word pa55word
passwort passwort1 motdepasse contrasena wachtwoord pass1234 pass12345 mypassword newpassword yourpassword nopassword
admin123 admin1234 admin12345 administrator adminadmin rootroot root1234 toor1234 superuser superadmin sysadmin test1234 testtest
tester123 testing123 test12345 user1234 guest123 guest1234 demo1234 demodemo default1 temp1234 temppass
letmein1 letmein! letmein123 letmeinnow welcome1 welcome! welcome12 welcome123 changeme changeme1 changeme123 change123 changeit
iloveyou iloveyou1 iloveyou2 iloveyou! loveyou1 ilovegod lovelove babygirl babygirl1 princess princess1 sunshine sunshine1
football football1 baseball baseball1 basketball softball hockey123 liverpool chelsea1 arsenal1 barcelona manchester steelers
superman superman1 batman123 spiderman starwars starwars1 pokemon1 pokemon123 naruto123 dragon123 monkey123 master123 shadow123
trustno1 whatever whatever1 computer computer1 internet internet1 samsung1 samsung123 google123 facebook facebook1 linkedin
michelle jennifer jessica1 charlie1 jordan23 michael1 daniel123 elizabeth victoria alexander benjamin christian nicholas
midnight chocolate butterfly rainbow1 cocacola cheese123 butterfly1 mustang1 corvette mercedes chevrolet ferrari1
secret123 topsecret secret12 access14 security dietcoke blahblah nothing1 anything freedom1 hello123 hellohello goodluck
"""

COMMON = frozenset(_WORDS.split())
"""In lower case."""
