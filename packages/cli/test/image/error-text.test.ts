/** What servers say in the bodies of errors: bodies as Glance 25.1, Keystone 22.0 and proxies send them. */
import { describe, expect, it } from 'vitest'
import { errorWords, plainText } from '../../src/image/error-text.ts'

const html = `<html>
 <head>
  <title>404 Not Found</title>
 </head>
 <body>
  <h1>404 Not Found</h1>
  Failed to find image &lt;x&gt; &#x27;y&#x27;<br /><br />


 </body>
</html>`

describe('words of an error', () => {
  it.each([
    ['Glance, HTML', 'text/html; charset=UTF-8', html, "Failed to find image <x> 'y'"],
    [
      'Glance, JSON',
      'application/json',
      '{"message": "No image found with ID 7<br /><br />\\n\\n\\n", "code": "404 Not Found", "title": "Not Found"}',
      'No image found with ID 7',
    ],
    [
      'Glance, text',
      'text/plain',
      '409 Conflict\n\nImage status transition from active to saving is not allowed\n\n   ',
      'Image status transition from active to saving is not allowed',
    ],
    [
      'Keystone',
      'application/json',
      '{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}',
      'The request you have made requires authentication.',
    ],
    [
      'nginx',
      'text/html',
      '<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>',
      'nginx',
    ],
    ['nothing', '', '', ''],
    ['a document that is no error', 'application/json', '{"versions": [{"id": "v2.17"}]}', ''],
    ['a page without a type', '', '<!DOCTYPE html><script>bad()</script><p>Down for repair', 'Down for repair'],
    ['control characters', 'text/plain', 'a\u001b[2Jb', 'a\\x1b[2Jb'],
  ])('%s', (_, type, body, words) => {
    expect(errorWords(type, body)).toBe(words)
  })

  it('are cut where they go on and on', () => {
    expect(errorWords('text/plain', 'x'.repeat(5000))).toHaveLength(1000)
  })

  it('cannot move the cursor of a terminal', () => {
    expect(plainText('a\tb\r\n\u0007\u202ec')).toBe('a b\\x0d\\x0a\\x07\\x202ec')
  })
})
