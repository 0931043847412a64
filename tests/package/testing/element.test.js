/**
 * The element in a DOM without pictures: it is there, has its attributes and tells what is missing.
 * @jest-environment jsdom
 * @vitest-environment jsdom
 */
import 'face96/define';

test('the element is there and tells by an event that there is no camera', async () => {
  document.body.innerHTML = '<face-keypoints camera max-faces="2"></face-keypoints>';
  const element = document.querySelector('face-keypoints');
  expect(element.maxFaces).toBe(2);
  const told = new Promise((resolve) => element.addEventListener('error', ({ detail }) => resolve(detail)));
  expect(await element.start()).toBe(false);
  expect((await told).code).toMatch(/^[a-z-]+$/);
  element.remove();
});
