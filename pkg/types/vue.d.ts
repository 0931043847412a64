// The tag in templates of Vue 3: `import 'face96/vue'` in one file of the project.
export type { CustomElements } from '../dist/types/vue.js';
